import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { seededRng } from '../../../src/base/rng.js'
import type { CodecName } from '../../../src/codec/codec.js'
import { CODEC_NAMES, codecByName, defaultGamma } from '../../../src/codec/registry.js'
import { MAX_EDGES, MAX_EDGES_BYTES, mostEdges } from '../../../src/consensus/exchange/edges.js'
import { initialExchangeState, stepExchange } from '../../../src/consensus/exchange/exchange.js'
import { withExchange } from '../../../src/consensus/exchange/pair-memory.js'
import { distance2, weightedMean } from '../../../src/tensor/linear.js'
import { gaussian, schema } from '../../codec/codec-cases.js'
import type { MachineNetwork } from './machines.js'
import { machineConfig, machineNetwork } from './machines.js'
import { runs } from '../../counts.js'

const EDGE_CODECS = CODEC_NAMES.filter((name) => codecByName(name, { schema }).edge !== undefined)
const reference = gaussian(schema.size, 'x0')
const near = (...seed: (string | number)[]): Float32Array => {
  const away = gaussian(schema.size, ...seed)
  return reference.map((value, i) => value + 0.5 * away[i]!)
}

interface Options {
  readonly peers?: number
  readonly fraction?: number
  readonly seed?: string | number
}

const networkOf = (codec: CodecName, { peers = 2, fraction = 0.1, seed = 'start' }: Options = {}): MachineNetwork =>
  machineNetwork({
    weights: Array.from({ length: peers }, (_, i) => 3 + 2 * i),
    reference,
    starts: Array.from({ length: peers }, (_, i) => near(seed, i)),
    codec,
    context: { schema, fraction },
    gamma: defaultGamma(codec, fraction)
  })

function exchange(network: MachineNetwork, from: number, to: number): void {
  network.initiate(from, to)
  network.drain()
}

/** Every exchange still on its way is lost before its COMMIT arrives. */
const loseEverything = { ...seededRng('lose'), integer: () => 0 }

const drift = (network: MachineNetwork, before: readonly Float32Array[]): number => {
  const weights = network.configs.map(({ weight }) => weight)
  const [a, b] = [weightedMean(before, weights), weightedMean(network.parameters, weights)]
  return Math.hypot(...a.map((value, i) => value - b[i]!)) / Math.hypot(...a)
}

/** Both ends of every edge that both name alike hold the same bits, crosswise. */
function expectAgreement({ states, configs }: MachineNetwork): number {
  let agreed = 0
  states.forEach((state, i) => {
    for (const [peer, edge] of state.edges) {
      const j = configs.findIndex(({ self }) => self === peer)
      const other = states[j]!.edges.get(configs[i]!.self)
      if (other === undefined || other.reference.hash !== edge.reference.hash) continue
      agreed++
      expect(other.reference).toEqual(edge.reference)
      expect(other.memory.partner).toEqual(edge.memory.own)
      expect(other.memory.own).toEqual(edge.memory.partner)
      expect(other.memory.directions).toEqual(edge.memory.directions)
    }
  })
  return agreed
}

describe.each(EDGE_CODECS)('an edge with %s', (codec) => {
  it('is the same on both ends after every exchange, whoever asked', () => {
    const network = networkOf(codec)
    for (const [from, to] of [
      [0, 1],
      [1, 0],
      [1, 0],
      [0, 1]
    ] as const)
      exchange(network, from, to)
    expect(expectAgreement(network)).toBe(2)
    expect(network.states[0]!.edges.get('peer-1')?.reference.sequence).toBe(4)
  })

  it.each([
    [1, 'before ACCEPT', 2],
    [2, 'before COMMIT', 2],
    [3, 'before ACK', 3]
  ])('cut after %i messages, %s, moves on both ends or on neither', (delivered, _, turns) => {
    const network = networkOf(codec)
    exchange(network, 0, 1)
    exchange(network, 1, 0)
    const link = network.initiate(0, 1)
    for (let i = 0; i < delivered; i++) network.deliver(...network.pending()[0]!)
    network.cut(link, loseEverything)
    network.drain()
    // The next contact settles what is in doubt; its own exchange is lost.
    const next = network.initiate(1, 0)
    for (let i = 0; i < 3 && network.pending().length > 0; i++) network.deliver(...network.pending()[0]!)
    network.cut(next, loseEverything)
    network.drain()
    network.heal(loseEverything)
    expect(network.states.map(({ journal }) => journal.inDoubt.length)).toEqual([0, 0])
    expect(expectAgreement(network)).toBe(2)
    expect(network.states[0]!.edges.get('peer-1')?.reference.sequence).toBeGreaterThanOrEqual(turns)
  })

  it('begins anew with the common start when one end has forgotten', () => {
    const network = networkOf(codec)
    for (let i = 0; i < 3; i++) exchange(network, 0, 1)
    network.states[1] = initialExchangeState(network.states[1]!.journal)
    const before = network.parameters.map((x) => x.slice())
    exchange(network, 0, 1)
    exchange(network, 1, 0)
    expect(expectAgreement(network)).toBe(2)
    expect(network.states[0]!.edges.get('peer-1')?.reference.sequence).toBe(2)
    expect(drift(network, before)).toBeLessThan(1e-6)
  })

  it('keeps the mean and agrees under cuts, replays and any order of events', () => {
    fc.assert(
      fc.property(fc.string(), (seed) => {
        const rng = seededRng('chaos', codec, seed)
        const network = networkOf(codec, { peers: 4, seed })
        const before = network.parameters.map((x) => x.slice())
        for (let event = 0; event < 120; event++) {
          const waiting = network.pending()
          const dice = rng.integer(10)
          if (dice === 0) {
            const [from = 0, to = 1] = rng.shuffle([0, 1, 2, 3])
            network.initiate(from, to)
          } else if (dice === 1 && network.openLinks().length > 0)
            network.cut(network.openLinks()[rng.integer(network.openLinks().length)]!, rng)
          else if (dice === 2) network.replay(rng)
          else if (waiting.length > 0) network.deliver(...waiting[rng.integer(waiting.length)]!)
        }
        network.heal(rng)
        expect(drift(network, before)).toBeLessThan(2e-6)
        expectAgreement(network)
      }),
      { numRuns: runs(10) }
    )
  })
})

describe.each(CODEC_NAMES)('the weighted mean of a pair with %s', (codec) => {
  it('stays where it is to float precision, exchange after exchange', () => {
    const network = networkOf(codec)
    const before = network.parameters.map((x) => x.slice())
    for (let i = 0; i < 20; i++) exchange(network, i % 2, 1 - (i % 2))
    expect(drift(network, before)).toBeLessThan(1e-6)
  })
})

/** What is left of the disagreement after each of `rounds` random matchings of eight peers. */
function disagreement(codec: CodecName, rounds: number, fraction = 0.25): number {
  const peers = 8
  const network = networkOf(codec, { peers, fraction, seed: 'consensus' })
  const rng = seededRng('matchings')
  const spread = () => {
    const mean = Float32Array.from(
      weightedMean(
        network.parameters,
        network.configs.map(({ weight }) => weight)
      )
    )
    return Math.hypot(...network.parameters.map((x) => distance2(x, mean)))
  }
  const before = spread()
  for (let round = 0; round < rounds; round++) {
    const order = rng.shuffle(Array.from({ length: peers }, (_, i) => i))
    for (let i = 0; i < peers; i += 2) exchange(network, order[i]!, order[i + 1]!)
  }
  return spread() / before
}

describe('consensus', () => {
  it.each([
    ['int8-edge', 40],
    ['int4-edge', 60],
    ['topk-edge', 250],
    ['topk-int4-edge', 250],
    ['rank-slots-edge', 400],
    ['powergossip', 250]
  ] as const)('with %s falls to a thousandth of the start', (codec, rounds) => {
    expect(disagreement(codec, rounds)).toBeLessThan(1e-3)
  })

  // One magnitude for a whole block: what is left has heavy tails, which signs code badly.
  it('with sign-edge falls below a twentieth, and slowly from there', () => {
    expect(disagreement('sign-edge', 200)).toBeLessThan(0.05)
  })

  it.each([
    ['int4', 60, 0.02],
    ['topk', 250, 0.1]
  ] as const)('with %s and no memory stays above its floor', (codec, rounds, floor) => {
    expect(disagreement(codec, rounds)).toBeGreaterThan(floor)
  })
})

describe('the bounds of edges', () => {
  const edge = {
    reference: { hash: 'a'.repeat(64), sequence: 1 },
    memory: { own: reference, partner: reference, turns: 1 }
  }

  it('forget the partner met longest ago', () => {
    const config = machineConfig(0, { weights: [3], reference, starts: [reference], codec: 'int4-edge' })
    const here = { config, local: { parameters: reference, phase: 'training' as const } }
    const met = [...Array.from({ length: MAX_EDGES }, (_, i) => `peer-${i}`), 'peer-0', 'peer-new']
    const { edges } = met.reduce(
      (state, peer) => withExchange(here, state, { peer, leaves: { edge } }),
      initialExchangeState()
    )
    expect(edges.size).toBe(MAX_EDGES)
    expect(edges.has('peer-0')).toBe(true)
    expect(edges.has('peer-1')).toBe(false)
  })

  it('are fewer where parameters are many, and one at least', () => {
    const config = (size: number) => ({ codec: codecByName('int4-edge'), schema: { size }, reference })
    expect(mostEdges(config(1000))).toBe(MAX_EDGES)
    expect(mostEdges(config(MAX_EDGES_BYTES / 8 / 3))).toBe(3)
    expect(mostEdges(config(1e9))).toBe(1)
  })
})

describe('a partner that names an edge we have not offered', () => {
  it('is refused and pays for it', () => {
    const options = { weights: [3, 5], reference, starts: [near('a'), near('b')], codec: 'int4-edge' as const }
    const config = machineConfig(0, options)
    const local = { parameters: options.starts[0]!, phase: 'training' as const }
    const [greeting, sent] = stepExchange({ config, local }, initialExchangeState(), {
      type: 'initiate',
      link: 1,
      peer: 'm'
    })
    const hello = sent[0]?.type === 'send' ? sent[0].message : undefined
    const [, effects] = stepExchange({ config, local }, greeting, {
      type: 'message',
      link: 1,
      peer: 'm',
      message: {
        type: 'accept',
        exchangeId: hello!.exchangeId,
        phase: 'training',
        weight: 1,
        payload: { sizeBytes: 0, sha256: '0'.repeat(64) },
        reference: { hash: 'e'.repeat(64), sequence: 9 }
      }
    })
    expect(effects.map(({ type }) => type)).toEqual(expect.arrayContaining(['penalise', 'send']))
    expect(effects.find(({ type }) => type === 'finished')).toMatchObject({ outcome: { kind: 'failed' } })
  })
})
