import { describe, expect, it } from 'vitest'
import { systemClock } from '../../../src/base/clock.js'
import type { FederationManifest, PeerRanks } from '../../../src/base/federation.js'
import type { Dataset } from '../../../src/data/batches/batch.js'
import { createMemoryNetwork, type MemoryNetwork } from '../../../src/gossip/memory/memory.js'
import { createSchema } from '../../../src/tensor/schema.js'
import { nestedPart, withSlots } from '../../../src/tensor/slots.js'
import type { Trainer } from '../../../src/train/trainer.js'
import { BATCH, joinAs, live, training } from './participant-world.js'

const MOST = 4
const WHOLE = createSchema([
  { name: 'up.lora_A.weight', shape: [MOST, 20] },
  { name: 'up.lora_B.weight', shape: [16, MOST] }
])
const START = Float32Array.from({ length: WHOLE.size }, (_, i) => 0.5 + (i % 7) / 10)

const manifest = (peerRanks: PeerRanks): FederationManifest => ({
  peertune: 1,
  name: 'ranks',
  model: { sha256: 'ab'.repeat(32) },
  task: { kind: 'causal-lm' },
  peft: { method: 'lora', rank: MOST, alpha: 8, targets: ['up'], head: [], seed: 'spring' },
  peerRanks,
  mixing: { localSteps: 3, codec: 'float32', gamma: 1, settleExchanges: 25, isolationFactor: 10 }
})

/** loss = |x - target|^2 / 2 over the slots that the peer has. */
function quadraticTrainer(slots: number, target: number): Trainer {
  const part = nestedPart(WHOLE, withSlots(WHOLE, slots))
  const loss = (x: Float32Array) => x.reduce((sum, value) => sum + (value - target) ** 2, 0) / 2
  return {
    description: {
      schema: part.schema,
      initial: part.take(START),
      inputs: [],
      modelSha256: 'ab'.repeat(32),
      device: { used: 'cpu' }
    },
    step: async (x) => ({ loss: loss(x), gradients: x.map((value) => value - target) }),
    evaluate: async (x) => ({ lossSum: loss(x), count: 1, correct: 1 }),
    close: async () => undefined
  }
}

const dataset = (size: number): Dataset => ({
  size,
  batches: () => ({ next: () => BATCH, cursor: () => ({ epoch: 0, position: 0 }) }),
  evaluation: () => [BATCH]
})

interface PeerPlan {
  readonly name: string
  readonly slots: number
  readonly target: number
}

const join = async (network: MemoryNetwork, { name, slots, target }: PeerPlan, peerRanks: PeerRanks) => ({
  slots,
  ...(await joinAs(network, name, {
    config: training(12),
    manifest: manifest(peerRanks),
    trainer: quadraticTrainer(slots, target),
    dataset: dataset(10 * slots)
  }))
})

const PLANS: readonly PeerPlan[] = [
  { name: 'alice', slots: 1, target: 3 },
  { name: 'bob', slots: 2, target: -2 },
  { name: 'carol', slots: 4, target: 0.5 },
  { name: 'dave', slots: 4, target: 2 }
]

async function train(peerRanks: PeerRanks) {
  const network = createMemoryNetwork({ seed: 'ranks', clock: systemClock })
  const peers = await Promise.all(PLANS.map((plan) => join(network, plan, peerRanks)))
  await network.connectAll()
  await live(peers)
  expect(peers.flatMap(({ verdicts }) => verdicts.filter((code) => /^(exchange|codec)/.test(code)))).toEqual([])
  return peers
}

describe('participants of different ranks', () => {
  it('agree on every slot with those that have it, and checkpoint what is theirs', async () => {
    const peers = await train('nested')
    const carol = peers[2]?.final() ?? new Float32Array()
    expect(carol).toHaveLength(WHOLE.size)
    for (const { slots, final } of peers) {
      const part = nestedPart(WHOLE, withSlots(WHOLE, slots))
      const [own, others] = [final() ?? new Float32Array(), part.take(carol)]
      expect(own).toHaveLength(part.schema.size)
      const apart = Math.max(...own.map((value, i) => Math.abs(value - (others[i] as number))))
      // Each alone would have gone up to 0.3 of its own way; two dozen exchanges leave little of it.
      expect(apart).toBeLessThan(0.1)
    }
  })

  it('in product space, peers of one rank agree in what they do although others are cut to less', async () => {
    const peers = await train('product')
    const [carol, dave] = [peers[2], peers[3]].map((peer) => product(peer?.final() ?? new Float32Array()))
    const apart = Math.hypot(...(carol ?? []).map((value, i) => value - (dave?.[i] as number)))
    expect(apart / Math.hypot(...(carol ?? []))).toBeLessThan(0.1)
    for (const { participant } of peers) expect(participant.report().rounds.exchanges).toBeGreaterThanOrEqual(10)
  })
})

/** B A of a peer with all slots. */
const product = (x: Float32Array): number[] =>
  Array.from({ length: 16 * 20 }, (_, cell) => {
    const [o, i] = [Math.floor(cell / 20), cell % 20]
    let sum = 0
    for (let r = 0; r < MOST; r++) sum += (x[MOST * 20 + o * MOST + r] as number) * (x[r * 20 + i] as number)
    return sum
  })
