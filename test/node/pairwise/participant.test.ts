import { describe, expect, it } from 'vitest'
import { systemClock } from '../../../src/base/clock.js'
import type { FederationManifest } from '../../../src/base/federation.js'
import { federationHash } from '../../../src/base/federation.js'
import { createMemoryStore } from '../../../src/checkpoint/memory-store.js'
import type { Dataset } from '../../../src/data/batches/batch.js'
import { createMemoryNetwork, type MemoryNetwork } from '../../../src/gossip/memory/memory.js'
import type { ParticipantParts } from '../../../src/node/participant/types.js'
import { distance2 } from '../../../src/tensor/linear.js'
import { createSchema } from '../../../src/tensor/schema.js'
import type { Trainer } from '../../../src/train/trainer.js'
import { BATCH, joinAs, live, training, until } from './participant-world.js'

const SIZE = 300

const manifest = (mixing: Partial<FederationManifest['mixing']> = {}): FederationManifest => ({
  peertune: 1,
  name: 'quadratics',
  model: { sha256: 'ab'.repeat(32) },
  task: { kind: 'causal-lm' },
  peft: { method: 'full', seed: 'x' },
  mixing: { localSteps: 3, codec: 'int8', gamma: 1, settleExchanges: 12, isolationFactor: 10, ...mixing }
})

const IDENTITY = {
  federationHash: federationHash(manifest()),
  schemaHash: createSchema([{ name: 'w', shape: [SIZE] }]).hash
}

const WHOLE = createSchema([{ name: 'w', shape: [SIZE] }])

/** loss = |x - target|^2 / (2 SIZE): each peer alone would run to its own target. */
function quadraticTrainer(target: (i: number) => number, schema = WHOLE): Trainer {
  const goal = Float32Array.from({ length: SIZE }, (_, i) => target(i))
  const loss = (x: Float32Array) => x.reduce((sum, value, i) => sum + (value - goal[i]!) ** 2, 0) / (2 * SIZE)
  return {
    description: {
      schema,
      initial: Float32Array.from({ length: SIZE }, (_, i) => 0.5 + (i % 7) / 10),
      inputs: [],
      modelSha256: 'ab'.repeat(32),
      device: { used: 'cpu' }
    },
    step: async (x) => ({ loss: loss(x), gradients: x.map((value, i) => (value - goal[i]!) / SIZE) }),
    evaluate: async (x) => ({ lossSum: 3 * loss(x), count: 3, correct: 1 }),
    close: async () => undefined
  }
}

function endless(size: number): Dataset {
  return {
    size,
    batches: (_, start = { epoch: 0, position: 0 }) => {
      let { position } = start
      return {
        next: () => {
          position++
          return BATCH
        },
        cursor: () => ({ epoch: 0, position })
      }
    },
    evaluation: () => [BATCH]
  }
}

interface PeerPlan {
  readonly name: string
  readonly target: (i: number) => number
  readonly samples: number
}

const join = (network: MemoryNetwork, { name, target, samples }: PeerPlan, overrides: Partial<ParticipantParts> = {}) =>
  joinAs(network, name, {
    config: training(60),
    manifest: manifest(),
    trainer: quadraticTrainer(target),
    dataset: endless(samples),
    ...overrides
  })

const PLANS: readonly PeerPlan[] = [
  { name: 'alice', target: (i) => (i % 2 === 0 ? 3 : -1), samples: 100 },
  { name: 'bob', target: (i) => (i % 3 === 0 ? -2 : 1.5), samples: 300 },
  { name: 'carol', target: (i) => (i % 5 === 0 ? 0.5 : 2), samples: 50 },
  { name: 'dave', target: () => -0.75, samples: 250 }
]

describe('participant', () => {
  it('mixes with the others until all agree, although each alone would go its own way', async () => {
    const network = createMemoryNetwork({ seed: 'agree', clock: systemClock })
    const peers = await Promise.all(PLANS.map((plan) => join(network, plan)))
    await network.connectAll()
    await live(peers)

    const states = await Promise.all(peers.map((peer) => peer.store.load(IDENTITY)))
    const finals = states.map((state) => state!.parameters)
    const farthest = Math.max(
      ...finals[0]!.map((value, i) => Math.max(...finals.map((other) => Math.abs(other[i]! - value))))
    )
    // The targets lie up to 5 apart; int8 against the common start leaves under 1 % of that distance.
    expect(farthest).toBeLessThan(0.1)
    expect(finals.every((final) => final.every(Number.isFinite))).toBe(true)
    for (const { participant, verdicts } of peers) {
      expect(participant.report().rounds.step).toBe(60)
      expect(participant.report().rounds.exchanges).toBeGreaterThan(12)
      expect(verdicts.filter((code) => code.startsWith('exchange/'))).toEqual([])
    }
  })

  it.each([
    ['int4-edge', { gamma: 0.9 }],
    ['topk-edge', { gamma: 0.5, fraction: 0.25 }]
  ] as const)('comes closer with %s and %o than local steps alone', async (codec, rest) => {
    const network = createMemoryNetwork({ seed: 'codecs', clock: systemClock })
    const agreed = manifest({ codec, ...rest })
    const peers = await Promise.all(PLANS.map((plan) => join(network, plan, { manifest: agreed })))
    await network.connectAll()
    await live(peers)
    const stats = peers.map(({ participant }) => participant.report().driver!.stats())

    const identity = { ...IDENTITY, federationHash: federationHash(agreed) }
    const finals = await Promise.all(peers.map(async ({ store }) => (await store.load(identity))!.parameters))
    const apart = Math.max(...finals.map((final) => distance2(final, finals[0]!)))
    // Sixty Adam steps along a cosine from 0.05 go a way of 1.5, so peers alone end up to 3 apart in an element.
    expect(apart / Math.sqrt(SIZE)).toBeLessThan(0.6)
    for (const { observed } of stats) expect(observed.onEdge).toBeGreaterThan(observed.exchanges / 2)
  })

  it('keeps at home what is not shared, as if it were alone there', async () => {
    const network = createMemoryNetwork({ seed: 'private', clock: systemClock })
    const schema = createSchema([
      { name: 'up.lora_A.weight', shape: [100] },
      { name: 'up.lora_B.weight', shape: [200] }
    ])
    const agreed = { ...manifest(), share: ['lora_A'] }
    const peers = await Promise.all(
      PLANS.slice(0, 2).map((plan) =>
        join(network, plan, { manifest: agreed, trainer: quadraticTrainer(plan.target, schema) })
      )
    )
    await network.connectAll()
    await live(peers)
    const [alice, bob] = peers.map((peer) => peer.final()!)
    const apart = (from: number, to: number) =>
      Math.max(...Array.from({ length: to - from }, (_, i) => Math.abs(alice![from + i]! - bob![from + i]!)))
    expect(apart(0, 100)).toBeLessThan(0.1)
    expect(apart(100, SIZE)).toBeGreaterThan(1)

    const lonely = createMemoryNetwork({ seed: 'lonely', clock: systemClock })
    const alone = manifest({ settleExchanges: 0 })
    const trainer = quadraticTrainer(PLANS[0]!.target, schema)
    const hermit = await join(lonely, PLANS[0]!, { manifest: alone, trainer })
    await live([hermit])
    expect(alice!.subarray(100)).toEqual(hermit.final()!.subarray(100))
  })

  it('trains on alone when there is nobody, and is done', async () => {
    const network = createMemoryNetwork({ seed: 'alone', clock: systemClock })
    const alone = manifest({ settleExchanges: 0 })
    const hermit = await join(network, PLANS[0]!, { manifest: alone })
    await live([hermit])
    const { participant, final } = hermit
    // Sixty AdamW steps of at most 0.05 with a cosine go about 1.5 towards the targets 3 and -1.
    expect(final()![0]).toBeGreaterThan(1.5)
    expect(final()![1]).toBeLessThan(-0.5)
    expect(participant.report().rounds).toMatchObject({ phase: 'done', step: 60, exchanges: 0 })
  })

  it('starts late from the middle of several states, not from one, and not from a liar', async () => {
    const network = createMemoryNetwork({ seed: 'late', clock: systemClock })
    const agreed = manifest({ clip: 0.5, codec: 'float32', settleExchanges: 40 })
    const parts = { manifest: agreed, config: training(200) }
    const early = await Promise.all(PLANS.map((plan) => join(network, { ...plan, target: () => 3 }, parts)))
    const mallory = { name: 'mallory', target: () => -300, samples: 10 }
    // It takes other steps than the rest, and is where nobody else is.
    const liar = await join(network, mallory, { ...parts, config: training(200, 5) })
    await network.connectAll()
    const leave = new AbortController()
    const lives = [...early, liar].map(({ participant }) => participant.run(leave.signal))
    await until(() => early.every(({ participant }) => participant.report().rounds.step > 100))
    const late = await join(network, { name: 'zoe', target: () => 3, samples: 100 }, parts)
    await network.connectAll()
    lives.push(late.participant.run(leave.signal))
    await until(() => late.participant.report().caughtUp !== undefined)
    const { caughtUp } = late.participant.report()
    leave.abort()
    await Promise.all(lives)
    expect(caughtUp).toMatchObject({ reason: 'newcomer', kept: 0 })
    expect(caughtUp!.sources).toBeGreaterThanOrEqual(3)
    // From 0.8 on average to where 100 steps have led the others, in one move.
    const states = await Promise.all(
      early.map((peer) => peer.store.load({ ...IDENTITY, federationHash: federationHash(agreed) }))
    )
    const common = states[0]!.parameters
    expect(caughtUp!.distance).toBeGreaterThan(0.5 * distance2(common, quadraticTrainer(() => 3).description.initial))
    expect(caughtUp!.distance).toBeLessThan(2 * distance2(common, quadraticTrainer(() => 3).description.initial))
  })

  it('catches up after an hour away by the states of several, and keeps what is within their reach', async () => {
    const network = createMemoryNetwork({ seed: 'away', clock: systemClock })
    const agreed = manifest({ clip: 0.5, codec: 'float32', settleExchanges: 400 })
    const parts = { manifest: agreed, config: training(1_000_000) }
    const identity = { ...IDENTITY, federationHash: federationHash(agreed) }
    const store = createMemoryStore()
    const plans = [...PLANS, { name: 'erin', target: () => 1, samples: 60 }]
    const peers = await Promise.all(plans.map((plan, i) => join(network, plan, i === 0 ? { ...parts, store } : parts)))
    await network.connectAll()
    const [goes, stays] = [new AbortController(), new AbortController()]
    const first = peers[0]!.participant.run(goes.signal)
    const others = peers.slice(1).map(({ participant }) => participant.run(stays.signal))
    await until(() => peers[0]!.participant.report().rounds.exchanges >= 3)
    goes.abort()
    await first
    const left = (await store.load(identity))!
    await store.save({ ...left, savedAtMs: left.savedAtMs - 3_600_000 })
    const back = await join(network, { ...PLANS[0]!, name: 'alice-again' }, { ...parts, store })
    await network.connectAll()
    const again = back.participant.run(stays.signal)
    await until(() => back.participant.report().caughtUp !== undefined)
    const { caughtUp } = back.participant.report()
    stays.abort()
    await Promise.all([...others, again])
    expect(caughtUp).toMatchObject({ reason: 'away' })
    expect(caughtUp!.sources).toBeGreaterThanOrEqual(3)
    expect(caughtUp!.kept).toBeGreaterThan(0)
    expect(caughtUp!.kept).toBeLessThanOrEqual(1)
  })

  it('goes on from its checkpoint: parameters, optimiser, step, cursor and random state', async () => {
    const network = createMemoryNetwork({ seed: 'resume', clock: systemClock })
    const store = createMemoryStore()
    const first = await join(network, PLANS[1]!, { store, config: training(1_000_000) })
    const other = await join(network, PLANS[2]!, { config: training(1_000_000) })
    await network.connectAll()
    await live([first, other], () => first.participant.report().rounds.exchanges >= 4)
    const left = first.participant.report().rounds
    const saved = await store.load(IDENTITY)
    expect(saved).toMatchObject({ step: left.step, exchanges: left.exchanges, phase: 'training' })
    expect(saved!.adam.step).toBe(left.step)
    expect(saved!.cursor.position).toBe(left.step)

    const again = await join(network, { ...PLANS[1]!, name: 'bob-again' }, { store, config: training(1_000_000) })
    expect(again.participant.report().rounds).toEqual(left)
    const stopAtOnce = AbortSignal.abort()
    await again.participant.run(stopAtOnce)
    const unchanged = await store.load(IDENTITY)
    expect(unchanged!.parameters).toEqual(saved!.parameters)
    expect(unchanged!.adam).toEqual(saved!.adam)
    expect(unchanged!.rng).toEqual(saved!.rng)
  })

  it('refuses to mix with peers that agreed on something else', async () => {
    const network = createMemoryNetwork({ seed: 'strangers', clock: systemClock })
    const ours = await join(network, PLANS[0]!, { config: training(40) })
    const theirs = await join(network, PLANS[1]!, { config: training(40), manifest: manifest({ gamma: 0.5 }) })
    await network.connectAll()
    const both = [ours, theirs]
    await live(both, () => both.every(({ participant }) => participant.report().rounds.phase !== 'training'))
    expect(ours.participant.report().rounds.exchanges + theirs.participant.report().rounds.exchanges).toBe(0)
  })
})
