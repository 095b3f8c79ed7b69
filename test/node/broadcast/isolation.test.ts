import { describe, expect, it } from 'vitest'
import { federationHash } from '../../../src/base/federation.js'
import { silentLogger } from '../../../src/base/log.js'
import { createMemoryStore } from '../../../src/checkpoint/memory-store.js'
import type { Dataset } from '../../../src/data/batches/batch.js'
import { createMemoryNetwork } from '../../../src/gossip/memory/memory.js'
import { createBroadcastParticipant } from '../../../src/node/broadcast/participant.js'
import { createManifest } from '../../../src/node/config/manifest.js'
import { simSign, simVerify } from '../../../src/sim/world/broadcast-signature.js'
import { ABSENT_MS } from '../../../src/consensus/broadcast/compaction.js'
import { SILENT_MS } from '../../../src/consensus/partners/peers.js'
import { createSchema } from '../../../src/tensor/schema.js'
import type { Trainer } from '../../../src/train/trainer.js'
import { createVirtualClock, type VirtualClock } from '../../gossip/virtual-clock.js'
import { BATCH, training } from '../pairwise/participant-world.js'

const LOCAL_STEPS = 3
const FACTOR = 4
const LIMIT = FACTOR * LOCAL_STEPS
/** Virtual milliseconds of one local step. */
const STEP_MS = 100
const SCHEMA = createSchema([{ name: 'w', shape: [20] }])

const manifest = createManifest(
  {
    peertune: 1,
    name: 'told',
    model: { sha256: 'ab'.repeat(32) },
    task: { kind: 'causal-lm' },
    peft: { method: 'full', seed: 'x' },
    mixing: { mode: 'broadcast', localSteps: LOCAL_STEPS, isolationFactor: FACTOR, broadcast: { codec: 'int8' } }
  },
  () => 'manifest'
)

/** Pulls every parameter towards 1, and takes its time. */
const slowTrainer = (clock: VirtualClock): Trainer => ({
  description: {
    schema: SCHEMA,
    initial: new Float32Array(SCHEMA.size),
    inputs: [],
    modelSha256: 'ab'.repeat(32),
    device: { used: 'cpu' }
  },
  async step(x) {
    await clock.sleep(STEP_MS)
    return { loss: 1, gradients: x.map((value) => value - 1) }
  },
  evaluate: async () => ({ lossSum: 1, count: 1, correct: 1 }),
  close: async () => undefined
})

const dataset: Dataset = {
  size: 10,
  batches: () => ({ next: () => BATCH, cursor: () => ({ epoch: 0, position: 0 }) }),
  evaluation: () => [BATCH]
}

function world(seed: string) {
  const clock = createVirtualClock()
  const network = createMemoryNetwork({ seed, clock })
  const leave = new AbortController()
  const lives: Promise<void>[] = []
  return {
    clock,
    network,
    async live(
      name: string,
      { steps = 1_000_000, ...limits }: { readonly steps?: number; readonly maxHeldBytes?: number } = {}
    ) {
      const transport = network.join({ name })
      await transport.start()
      const participant = await createBroadcastParticipant({
        config: training(steps),
        manifest,
        federation: federationHash(manifest),
        transport,
        trainer: slowTrainer(clock),
        dataset,
        store: createMemoryStore(),
        software: 'peertune/test',
        clock,
        log: silentLogger,
        onVerdict: () => undefined,
        sign: (body) => simSign(name, body),
        verify: simVerify,
        ...limits
      })
      return {
        participant,
        start: () => void lives.push(participant.run(leave.signal)),
        step: () => participant.report().rounds.step,
        without: () => participant.report().rounds.step - participant.report().rounds.lastExchangeStep,
        waitsFor: () => participant.report().waitsFor
      }
    },
    async end() {
      leave.abort()
      await clock.advance(60_000)
      await Promise.all(lives)
    }
  }
}

describe('a peer that broadcasts and reaches nobody', () => {
  it('stops at its limit, says what it waits for, and goes on with the first contact', async () => {
    const { clock, network, live, end } = world('cut off')
    const [anna, bert] = [await live('anna'), await live('bert')]
    await network.connectAll()
    anna.start()
    bert.start()
    await clock.advance(20_000)
    for (const one of [anna, bert]) {
      expect(one.step()).toBeGreaterThan(4 * LIMIT)
      expect(one.without()).toBeLessThan(LIMIT)
      expect(one.waitsFor()).toBeUndefined()
    }

    network.partition([['anna'], ['bert']])
    await clock.advance(LIMIT * STEP_MS + 5_000)
    expect([anna.without(), anna.waitsFor()]).toEqual([LIMIT, 'contact'])
    const stuck = anna.step()
    await clock.advance(10_000)
    expect(anna.step()).toBe(stuck)

    network.heal()
    await network.connectAll()
    await clock.advance(3_000)
    expect(anna.step()).toBeGreaterThan(stuck + LIMIT)
    expect(anna.waitsFor()).toBeUndefined()
    await end()
  })

  it('goes on once it knows of nobody any more, as in pairs', async () => {
    const { clock, network, live, end } = world('forgotten')
    const [anna, bert] = [await live('anna'), await live('bert')]
    await network.connectAll()
    anna.start()
    bert.start()
    await clock.advance(20_000)
    network.partition([['anna'], ['bert']])
    await clock.advance(20_000)
    const stuck = anna.step()
    expect(anna.waitsFor()).toBe('contact')
    await clock.advance(SILENT_MS)
    expect(anna.step()).toBeGreaterThan(stuck + LIMIT)
    expect(anna.waitsFor()).toBeUndefined()
    await end()
  })

  it('trains to its last step where it is the first and only one', async () => {
    const { clock, live, end } = world('first')
    const anna = await live('anna', { steps: 5 * LIMIT })
    anna.start()
    await clock.advance(20_000 + 5 * LIMIT * STEP_MS)
    expect(anna.step()).toBe(5 * LIMIT)
    expect(anna.participant.report().rounds.phase).not.toBe('training')
    await end()
  })
})

describe('a peer that keeps more for others than they have taken', () => {
  it('says nothing new until most of them have it', async () => {
    const { clock, network, live, end } = world('full')
    const limits = { maxHeldBytes: 600 }
    const [anna, bert, carl] = [await live('anna', limits), await live('bert', limits), await live('carl', limits)]
    await network.connectAll()
    for (const one of [anna, bert, carl]) one.start()
    await clock.advance(60_000)
    // Eight times 600 bytes are a few updates: long before the end they would be reached, were they not compacted.
    for (const one of [anna, bert, carl]) expect([one.step() > 20 * LIMIT, one.waitsFor()]).toEqual([true, undefined])

    // Two of three are no more than two thirds.
    network.partition([['anna', 'bert'], ['carl']])
    await clock.advance(20_000)
    expect([anna.waitsFor(), bert.waitsFor()]).toEqual(['room', 'room'])
    const stuck = anna.step()
    await clock.advance(10_000)
    expect(anna.step()).toBe(stuck)

    network.heal()
    await network.connectAll()
    await clock.advance(20_000)
    expect(anna.step()).toBeGreaterThan(stuck + 4 * LIMIT)

    // Carl leaves for good: he is waited for, but not for ever.
    network.partition([['anna', 'bert'], ['carl']])
    await clock.advance(60_000)
    expect([anna.waitsFor(), bert.waitsFor()]).toEqual(['room', 'room'])
    const left = anna.step()
    await clock.advance(ABSENT_MS)
    expect(anna.step()).toBeGreaterThan(left + 4 * LIMIT)
    await end()
  })
})
