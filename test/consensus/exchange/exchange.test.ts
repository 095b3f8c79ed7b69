import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { seededRng } from '../../../src/base/rng.js'
import { float32Codec } from '../../../src/codec/coders/float32.js'
import type { ExchangeMessage } from '../../../src/codec/wire/messages.js'
import { payloadHeader } from '../../../src/codec/wire/payload.js'
import { initialExchangeState, stepExchange } from '../../../src/consensus/exchange/exchange.js'
import type { ExchangeConfig, ExchangeEffect, ExchangeState } from '../../../src/consensus/exchange/types.js'
import { distance2, norm2, weightedMean } from '../../../src/tensor/linear.js'
import type { MachineNetwork } from './machines.js'
import { machineConfig, machineNetwork } from './machines.js'
import { runs } from '../../counts.js'

const SIZE = 300

const randomVector = (scale: number, ...seed: (string | number)[]): Float32Array => {
  const rng = seededRng('vector', ...seed)
  return Float32Array.from({ length: SIZE }, () => scale * (rng.uniform() - 0.5))
}

const reference = randomVector(2, 'x0')
const near = (...seed: (string | number)[]): Float32Array => {
  const away = randomVector(1, ...seed)
  return reference.map((value, i) => value + away[i]!)
}

const pair = (weights: readonly [number, number] = [3, 5], codec: 'float32' | 'int8' = 'int8', gamma = 1) =>
  machineNetwork({ weights, reference, starts: [near('a'), near('b')], codec, gamma })

const outcomes = (network: MachineNetwork, machine: number) =>
  network.log.flatMap(({ machine: from, effect }) =>
    from === machine && effect.type === 'finished' ? [effect.outcome] : []
  )

const drift = (before: readonly Float32Array[], after: readonly Float32Array[], weights: readonly number[]): number => {
  const [a, b] = [weightedMean(before, weights), weightedMean(after, weights)]
  return Math.hypot(...a.map((value, i) => value - b[i]!)) / Math.hypot(...a)
}

describe('one exchange', () => {
  it('moves an equal pair to its mean with float32 and gamma 1', () => {
    const network = pair([4, 4], 'float32')
    const [a, b] = network.parameters.map((x) => x.slice())
    network.initiate(0, 1)
    network.drain()
    for (const x of network.parameters)
      x.forEach((value, i) => {
        expect(value).toBeCloseTo((a![i]! + b![i]!) / 2, 6)
      })
    expect(outcomes(network, 0)).toEqual([{ kind: 'committed' }])
    expect(outcomes(network, 1)).toEqual([{ kind: 'committed' }])
  })

  it('moves each side by the weight of the other: n_i dx_i + n_j dx_j = 0, increments in closed form', () => {
    const network = pair([3, 5], 'float32', 0.5)
    const [a, b] = network.parameters.map((x) => x.slice())
    network.initiate(1, 0)
    network.drain()
    network.parameters[0]!.forEach((value, i) => {
      expect(value - a![i]!).toBeCloseTo(0.5 * (5 / 8) * (b![i]! - a![i]!), 6)
    })
    network.parameters[1]!.forEach((value, i) => {
      expect(value - b![i]!).toBeCloseTo(0.5 * (3 / 8) * (a![i]! - b![i]!), 6)
    })
  })

  it('keeps the weighted mean with int8 although each side lands elsewhere than the true mean', () => {
    const network = pair([3, 5])
    const before = network.parameters.map((x) => x.slice())
    network.initiate(0, 1)
    network.drain()
    expect(drift(before, network.parameters, [3, 5])).toBeLessThan(1e-7)
    const apart = distance2(network.parameters[0]!, network.parameters[1]!)
    expect(apart).toBeGreaterThan(0)
    expect(apart / distance2(before[0]!, before[1]!)).toBeLessThan(0.02)
  })

  it('applies the increment to the live vector: local training between the messages is kept', () => {
    const network = pair([4, 4], 'float32')
    const [a, b] = network.parameters.map((x) => x.slice())
    network.initiate(0, 1)
    for (let i = 0; i < 4; i++) {
      const [link, side] = network.pending()[0]!
      network.deliver(link, side)
      // Both train after both snapshots are taken (HELLO and ACCEPT delivered).
      if (i === 1) for (const x of network.parameters) x[7] = x[7]! + 0.25
    }
    const mean = (a![7]! + b![7]!) / 2 + 0.25
    for (const x of network.parameters) expect(x[7]).toBeCloseTo(mean, 6)
  })

  it('rounds afresh in every exchange and alike on both sides', () => {
    const network = pair([4, 4])
    network.initiate(0, 1)
    network.drain()
    const applied = network.log.flatMap(({ effect }) => (effect.type === 'apply' ? [effect.increment] : []))
    expect([...applied[0]!]).toEqual([...applied[1]!.map((value) => -value)])
    expect(applied.length).toBe(2)
  })
})

/** Delivers the first `count` messages of an exchange from 0 to 1, then cuts. */
function cutAfter(network: MachineNetwork, count: number): void {
  const link = network.initiate(0, 1)
  for (let i = 0; i < count; i++) {
    const [at, side] = network.pending()[0]!
    network.deliver(at, side)
  }
  const rng = seededRng('cut')
  const drop = { ...rng, integer: () => 0 }
  network.cut(link, drop)
  network.drain()
}

describe('a link cut at every message boundary', () => {
  it.each([
    [0, 'before HELLO arrives', 'failed', 'nobody'],
    [1, 'before ACCEPT arrives', 'failed', 'nobody'],
    [2, 'before COMMIT arrives', 'in-doubt', 'nobody'],
    [3, 'before ACK arrives', 'in-doubt', 'both'],
    [4, 'after ACK', 'committed', 'both']
  ] as const)('%i delivered, %s: then both or neither', (count, _, outcome, who) => {
    const network = pair([3, 5], 'float32')
    const before = network.parameters.map((x) => x.slice())
    cutAfter(network, count)
    expect(outcomes(network, 0)[0]?.kind).toBe(outcome)
    expect(network.states[0]!.journal.inDoubt.length).toBe(outcome === 'in-doubt' ? 1 : 0)

    // The next contact only settles: its own exchange is cut before its COMMIT.
    const link = network.initiate(0, 1)
    for (let i = 0; i < (outcome === 'in-doubt' ? 3 : 1); i++) network.deliver(...network.pending()[0]!)
    network.cut(link, { ...seededRng('x'), integer: () => 0 })
    network.drain()
    expect(network.states[0]!.journal.inDoubt).toEqual([])
    const moved = network.parameters.map((x, i) => distance2(x, before[i]!) > 0)
    expect(moved).toEqual(who === 'both' ? [true, true] : [false, false])
    expect(drift(before, network.parameters, [3, 5])).toBeLessThan(1e-7)
  })

  it.each([2, 3])('%i delivered: settled when the other side calls', (count) => {
    const network = pair([3, 5], 'float32')
    const before = network.parameters.map((x) => x.slice())
    cutAfter(network, count)
    network.initiate(1, 0)
    network.drain()
    expect(network.states[0]!.journal.inDoubt).toEqual([])
    expect(outcomes(network, 1).at(-1)).toEqual({ kind: 'committed' })
    const applies = network.log.filter(({ effect }) => effect.type === 'apply').length
    expect(applies).toBe(count === 3 ? 4 : 2)
    expect(drift(before, network.parameters, [3, 5])).toBeLessThan(1e-7)
  })

  it('an exchange still open on the old link is given up before RESOLVE is answered', () => {
    const network = pair()
    const old = network.initiate(0, 1)
    network.deliver(old, 1)
    network.deliver(old, 0)
    // COMMIT is on its way on the old link; the initiator believes the link is dead and asks on a new one.
    const [state] = stepExchange(
      { config: network.configs[0]!, local: { parameters: network.parameters[0]!, phase: 'training' } },
      network.states[0]!,
      { type: 'broken', link: old, peer: 'peer-1' }
    )
    network.states[0] = state
    const fresh = network.initiate(0, 1)
    network.deliver(fresh, 1)
    network.deliver(fresh, 0)
    expect(network.log.map(({ effect }) => effect.type)).toContain('undone')
    network.deliver(old, 1)
    expect(network.log.filter(({ effect }) => effect.type === 'apply')).toEqual([])
    network.drain()
    expect(network.log.filter(({ effect }) => effect.type === 'apply').length).toBe(2)
  })
})

describe('two that call at once', () => {
  it('one yields, one exchange is made', () => {
    const network = pair()
    const [first, second] = [network.initiate(0, 1), network.initiate(1, 0)]
    network.deliver(second, 1)
    network.deliver(first, 1)
    network.drain()
    expect(network.log.filter(({ effect }) => effect.type === 'apply').length).toBe(2)
    expect(outcomes(network, 0)).toEqual([{ kind: 'committed' }])
    expect(outcomes(network, 1)).toEqual([{ kind: 'yielded' }, { kind: 'committed' }])
  })

  it('a ring of callers does not wait for itself', () => {
    const starts = [0, 1, 2].map((i) => near('ring', i))
    const network = machineNetwork({ weights: [1, 2, 3], reference, starts })
    for (const i of [0, 1, 2]) network.initiate(i, (i + 1) % 3)
    network.drain()
    expect(network.states.every((state) => state.active === undefined)).toBe(true)
    expect(network.log.filter(({ effect }) => effect.type === 'apply').length).toBeGreaterThanOrEqual(2)
  })

  it('answers busy while it waits for an ACK', () => {
    const starts = [0, 1, 2].map((i) => near('busy', i))
    const network = machineNetwork({ weights: [1, 2, 3], reference, starts })
    const link = network.initiate(1, 2)
    network.deliver(link, 1)
    network.deliver(link, 0)
    expect(network.states[1]!.active?.stage).toBe('committing')
    network.deliver(network.initiate(0, 1), 1)
    network.drain()
    expect(outcomes(network, 0)).toEqual([{ kind: 'refused', code: 'busy' }])
  })
})

describe('any order of events', () => {
  /** A network of four, a random schedule of calls, deliveries, cuts, repetitions, and healing at the end. */
  function chaos(seed: number): MachineNetwork {
    const rng = seededRng('chaos', seed)
    const starts = [0, 1, 2, 3].map((i) => near('chaos', i))
    const network = machineNetwork({ weights: [1, 20, 3, 7], reference, starts })
    for (let i = 0; i < 150; i++) {
      const dice = rng.integer(20)
      const from = rng.integer(4)
      const open = network.openLinks()
      const doubted = network.states[from]!.journal.inDoubt[0]?.peer
      // Calling the peer one is in doubt with, early and often, is where an answer could come too soon.
      if (dice < 2 && doubted !== undefined) network.initiate(from, network.indexOf(doubted))
      else if (dice < 3) network.initiate(from, (from + 1 + rng.integer(3)) % 4)
      else if (dice === 3 && open.length > 0) network.cut(open[rng.integer(open.length)]!, rng)
      else if (dice === 4) network.replay(rng)
      else {
        const waiting = network.pending()
        if (waiting.length > 0) network.deliver(...waiting[rng.integer(waiting.length)]!)
      }
    }
    network.heal(rng)
    return network
  }

  it('applies every exchange on both sides or on none, never twice, never applied and undone', () => {
    let committed = 0
    fc.assert(
      fc.property(fc.nat(), (seed) => {
        const network = chaos(seed)
        const roles = new Map<string, string[]>()
        for (const { effect } of network.log)
          if (effect.type === 'apply' || effect.type === 'undone')
            roles.set(effect.exchangeId, [
              ...(roles.get(effect.exchangeId) ?? []),
              effect.type === 'apply' ? effect.role : 'undone'
            ])
        for (const seen of roles.values())
          expect([['initiator', 'responder'], ['undone']]).toContainEqual(seen.toSorted())
        committed += roles.size
        expect(network.states.flatMap((state) => state.journal.inDoubt)).toEqual([])
        expect(network.states.every((state) => state.active === undefined)).toBe(true)
      }),
      { numRuns: runs(600) }
    )
    expect(committed).toBeGreaterThan(2000)
  })

  it('keeps the weighted mean', () => {
    fc.assert(
      fc.property(fc.nat(), (seed) => {
        const network = chaos(seed)
        const starts = [0, 1, 2, 3].map((i) => near('chaos', i))
        expect(drift(starts, network.parameters, [1, 20, 3, 7])).toBeLessThan(1e-6)
      }),
      { numRuns: runs(50) }
    )
  })
})

describe('a partner that breaks the rules', () => {
  const config = machineConfig(0, { weights: [3, 5], reference, starts: [], codec: 'float32' })
  const parameters = near('honest')
  const local = { parameters, phase: 'training' as const }
  const id = 'ab'.repeat(16)
  const hello: ExchangeMessage = {
    type: 'hello',
    exchangeId: id,
    federation: config.federation,
    schema: config.schema.hash,
    phase: 'training',
    weight: 5,
    codec: 'float32',
    gamma: 1
  }

  const message = (state: ExchangeState, content: ExchangeMessage, payload?: Uint8Array) =>
    stepExchange({ config, local }, state, {
      type: 'message',
      link: 1,
      peer: 'mallory',
      message: content,
      ...(payload === undefined ? {} : { payload })
    })

  const verdicts = (effects: readonly ExchangeEffect[]) =>
    effects.flatMap((effect) => (effect.type === 'penalise' ? [effect.verdict] : []))
  const refusals = (effects: readonly ExchangeEffect[]) =>
    effects.flatMap((effect) =>
      effect.type === 'send' && effect.message.type === 'refuse' ? [effect.message.code] : []
    )

  it.each([
    ['another federation', { federation: '0'.repeat(64) }, 'other-federation'],
    ['another schema', { schema: '0'.repeat(64) }, 'other-schema'],
    ['another codec', { codec: 'int8' }, 'other-codec'],
    ['another gamma', { gamma: 0.9 }, 'other-gamma'],
    ['weight 0', { weight: 0 }, 'absurd-weight'],
    ['half an example', { weight: 0.5 }, 'absurd-weight'],
    ['four thousand million examples', { weight: 4e9 }, 'absurd-weight']
  ])('HELLO with %s', (_, change, code) => {
    const start = initialExchangeState()
    const [state, effects] = message(start, { ...hello, ...change } as ExchangeMessage)
    expect(state).toEqual(start)
    expect(refusals(effects)).toEqual([code])
    expect(verdicts(effects)).toEqual([{ verdict: 'reject', code: `exchange/${code}` }])
  })

  const good = float32Codec.encode(new Float32Array(SIZE).fill(0.5), seededRng('m'))
  const nan = good.slice()
  nan.set([0, 0, 0xc0, 0x7f], 40)
  const huge = good.slice()
  new DataView(huge.buffer).setFloat32(40, 3.4e38, true)
  const limits = Float32Array.from(reference)
  limits[10] = 3e38

  const sides = [
    ['nothing', undefined, payloadHeader(good), 'bad-payload'],
    ['fewer bytes than announced', good.subarray(4), payloadHeader(good), 'bad-payload'],
    ['a wrong checksum', good, { sizeBytes: good.length, sha256: '0'.repeat(64) }, 'bad-checksum'],
    ['another number of parameters', good.subarray(4), payloadHeader(good.subarray(4)), 'bad-payload'],
    ['a NaN', nan, payloadHeader(nan), 'not-finite']
  ] as const

  it.each(sides)('COMMIT with %s leaves us untouched', (_, payload, header, code) => {
    const [accepted] = message(initialExchangeState(), hello)
    const [state, effects] = message(accepted, { type: 'commit', exchangeId: id, payload: header }, payload)
    expect(refusals(effects)).toEqual([code])
    expect(verdicts(effects)[0]?.verdict).toBe('reject')
    expect(effects.some((effect) => effect.type === 'apply')).toBe(false)
    expect(state.active).toBeUndefined()
    // It cannot be repaired by a second COMMIT: what we refused stays undone.
    const [, again] = message(state, { type: 'commit', exchangeId: id, payload: payloadHeader(good) }, good)
    expect(refusals(again)).toEqual(['unknown-exchange'])
  })

  it.each(sides)('ACCEPT with %s leaves us untouched', (_, payload, header, code) => {
    const [greeting, sent] = stepExchange({ config, local }, initialExchangeState(), {
      type: 'initiate',
      link: 1,
      peer: 'mallory'
    })
    const exchangeId = sent[0]?.type === 'send' ? sent[0].message.exchangeId : ''
    const accept: ExchangeMessage = { type: 'accept', exchangeId, phase: 'training', weight: 5, payload: header }
    const [state, effects] = message(greeting, accept, payload)
    expect(refusals(effects)).toEqual([code])
    expect(verdicts(effects)[0]?.verdict).toBe('reject')
    expect(state).toEqual({ ...greeting, active: undefined })
  })

  it('a finite vector so far away that the step overflows is refused', () => {
    const far: ExchangeConfig = { ...config, reference: limits }
    const [accepted] = stepExchange(
      { config: far, local: { parameters: limits, phase: 'training' } },
      initialExchangeState(),
      { type: 'message', link: 1, peer: 'mallory', message: hello }
    )
    const commit: ExchangeMessage = { type: 'commit', exchangeId: id, payload: payloadHeader(huge) }
    const [, effects] = stepExchange({ config: far, local: { parameters: limits, phase: 'training' } }, accepted, {
      type: 'message',
      link: 1,
      peer: 'mallory',
      message: commit,
      payload: huge
    })
    expect(refusals(effects)).toEqual(['not-finite'])
  })

  it('an ACCEPT with an absurd weight is refused', () => {
    const [greeting, sent] = stepExchange({ config, local }, initialExchangeState(), {
      type: 'initiate',
      link: 1,
      peer: 'mallory'
    })
    const exchangeId = sent[0]?.type === 'send' ? sent[0].message.exchangeId : ''
    const accept = { type: 'accept', exchangeId, phase: 'training', weight: 0, payload: payloadHeader(good) } as const
    const [state, effects] = message(greeting, accept, good)
    expect(refusals(effects)).toEqual(['absurd-weight'])
    expect(state.journal.inDoubt).toEqual([])
  })

  it('a repeated COMMIT is acknowledged again and applied once', () => {
    const commit: ExchangeMessage = { type: 'commit', exchangeId: id, payload: payloadHeader(good) }
    const [accepted] = message(initialExchangeState(), hello)
    const [done, first] = message(accepted, commit, good)
    const [still, second] = message(done, commit, good)
    expect(first.filter((effect) => effect.type === 'apply').length).toBe(1)
    expect(second).toEqual([{ type: 'send', link: 1, message: { type: 'ack', exchangeId: id } }])
    expect(still).toEqual(done)
  })

  it('an ACK, an answer or a COMMIT out of nowhere changes nothing', () => {
    const start = initialExchangeState()
    for (const content of [
      { type: 'ack', exchangeId: id },
      { type: 'resolution', exchangeId: id, fate: 'committed' },
      { type: 'refuse', exchangeId: id, code: 'busy' },
      { type: 'commit', exchangeId: id, payload: payloadHeader(good) }
    ] as const) {
      const [state, effects] = message(start, content, good)
      expect(state).toEqual(start)
      expect(effects.some((effect) => effect.type === 'apply')).toBe(false)
    }
  })

  it("a stranger cannot settle another peer's doubt", () => {
    const network = pair()
    cutAfter(network, 2)
    const { exchangeId } = network.states[0]!.journal.inDoubt[0]!
    const [state, effects] = stepExchange(
      { config: network.configs[0]!, local: { parameters: network.parameters[0]!, phase: 'training' } },
      network.states[0]!,
      { type: 'message', link: 99, peer: 'mallory', message: { type: 'ack', exchangeId } }
    )
    expect(state).toEqual(network.states[0])
    expect(effects.some((effect) => effect.type === 'apply')).toBe(false)
  })

  it('an id is good for one exchange', () => {
    const [accepted] = message(initialExchangeState(), hello)
    const [ended] = stepExchange({ config, local }, accepted, { type: 'broken', link: 1, peer: 'mallory' })
    const [, effects] = message(ended, hello)
    expect(refusals(effects)).toEqual(['duplicate-exchange'])
  })

  it('our own parameters that cannot be sent are our error, and the state stays', () => {
    const broken = {
      parameters: parameters.map((value, i) => (i === 5 ? Number.NaN : value)),
      phase: 'training' as const
    }
    const event = { type: 'message', link: 1, peer: 'mallory', message: hello } as const
    expect(() => stepExchange({ config, local: broken }, initialExchangeState(), event)).toThrow(
      expect.objectContaining({ code: 'codec/not-finite' })
    )
  })
})

describe('repeated exchanges', () => {
  it.each(['float32', 'int8'] as const)('pairs drawn at random contract like one-partner gossip (%s)', (codec) => {
    const peers = 16
    const rng = seededRng('contract', codec)
    const starts = Array.from({ length: peers }, (_, i) => near('contract', i))
    const weights = starts.map(() => 2)
    const network = machineNetwork({ weights, reference, starts, codec })
    const spread = () => {
      const mean = Float32Array.from(weightedMean(network.parameters, weights))
      return Math.sqrt(network.parameters.reduce((sum, x) => sum + distance2(x, mean) ** 2, 0))
    }
    const before = spread()
    const rounds = 8
    for (let round = 0; round < rounds; round++) {
      // A random perfect matching: every peer mixes once.
      const order = rng.shuffle(starts.map((_, i) => i))
      for (let i = 0; i < peers; i += 2) {
        network.initiate(order[i]!, order[i + 1]!)
        network.drain()
      }
    }
    // A random matching halves the expected squared error up to (n - 2) / (n - 1) terms: per round sqrt(7/15) = 0.683.
    const perRound = (spread() / before) ** (1 / rounds)
    expect(perRound).toBeGreaterThan(codec === 'int8' ? 0.5 : 0.55)
    expect(perRound).toBeLessThan(0.8)
    expect(norm2(Float32Array.from(weightedMean(network.parameters, weights)))).toBeGreaterThan(0)
  })
})

describe('a HELLO that arrives again', () => {
  it('after the exchange was committed is acknowledged, not refused: the initiator may still wait for the ACK', () => {
    const network = pair()
    const link = network.initiate(0, 1)
    const [greeting] = network.queued(link, 1)
    network.deliver(link, 1)
    network.deliver(link, 0)
    network.deliver(link, 1)
    // The copy overtakes nothing, but the ACK is still on its way when the answer to it is sent.
    network.inject(link, 1, greeting!)
    network.deliver(link, 1)
    network.drain()
    const kinds = network.log.map(({ machine, effect }) => [machine, effect.type])
    expect(kinds.filter(([, type]) => type === 'apply')).toEqual([
      [1, 'apply'],
      [0, 'apply']
    ])
    expect(kinds.filter(([, type]) => type === 'undone')).toEqual([])
    expect(network.states[0]!.journal.inDoubt).toEqual([])
  })
})
