import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { fileURLToPath } from 'node:url'
import { systemClock } from '../../../src/base/clock.js'
import { entryUrl } from '../../../src/base/entry.js'
import { federationHash } from '../../../src/base/federation.js'
import { silentLogger } from '../../../src/base/log.js'
import type { Verdict } from '../../../src/base/verdict.js'
import { createMemoryStore } from '../../../src/checkpoint/memory-store.js'
import type { Dataset } from '../../../src/data/batches/batch.js'
import { openDataset } from '../../../src/data/source.js'
import { createMemoryNetwork } from '../../../src/gossip/memory/memory.js'
import { mixingConfig } from '../../../src/node/pairwise/exchange-config.js'
import { createExchangeDriver } from '../../../src/node/pairwise/driver.js'
import { createManifest } from '../../../src/node/config/manifest.js'
import { modelSha256 } from '../../../src/node/config/model-hash.js'
import { createParticipant } from '../../../src/node/pairwise/participant.js'
import { createRefusalBook } from '../../../src/node/peers/refusal-book.js'
import { distance2 } from '../../../src/tensor/linear.js'
import { type ChildTrainer, spawnTrainer } from '../../../src/train/process/child-trainer.js'
import { createLocalOptimiser } from '../../../src/train/optimiser/local-optimiser.js'

const MODEL = fileURLToPath(new URL('../../../models/glyphs/model.onnx', import.meta.url))
const LETTERS = [...'ABCDEF']
const SETTINGS = { batchSize: 16, learningRate: 0.01, schedule: 'constant', warmupSteps: 0, weightDecay: 0 } as const
const ADAM = { beta1: 0.9, beta2: 0.999, epsilon: 1e-8 }

const manifestOf = async () =>
  createManifest(
    {
      peertune: 1,
      name: 'judged',
      model: { sha256: await modelSha256(MODEL) },
      task: { kind: 'image-classification', labels: LETTERS },
      peft: { method: 'lora', rank: 2, alpha: 4, targets: ['query', 'value'], head: ['classifier'], seed: 'ubar' },
      mixing: {
        localSteps: 2,
        codec: 'float32',
        clip: 1000,
        settleExchanges: 0,
        robust: { rule: 'ubar', window: 5, share: 0.4 }
      }
    },
    () => 'manifest'
  )

type Manifest = Awaited<ReturnType<typeof manifestOf>>

let trainer: ChildTrainer
let manifest: Manifest
let dataset: Dataset
/** Turns of our event loop during each evaluation. */
const turns: number[] = []

beforeAll(async () => {
  manifest = await manifestOf()
  const { task, peft } = manifest
  const spec = { modelPath: MODEL, task, peft: peft as never, device: 'cpu', threads: 1 } as const
  const entry = entryUrl('node/model/trainer-main.js')
  trainer = await spawnTrainer({ entry, spec, clock: systemClock, log: silentLogger })
  const glyphs = { kind: 'glyphs', classes: LETTERS, samples: 96, seed: 'ubar', testSamples: 48 } as const
  dataset = await openDataset(glyphs as never, task, trainer.description)
})
afterAll(() => trainer.close())

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await systemClock.sleep(5)
}

/** The trainer, with a count of what else could happen while it evaluated. */
const watched = (): ChildTrainer => ({
  ...trainer,
  async evaluate(parameters, batch) {
    let ended = false
    let count = 0
    const spin = (async () => {
      while (!ended) {
        await new Promise(setImmediate)
        count++
      }
    })()
    const result = await trainer.evaluate(parameters, batch)
    ended = true
    await spin
    turns.push(count)
    return result
  }
})

/** What somebody with the same letters has learned after so many steps. */
async function learned(steps: number): Promise<Float32Array> {
  const parameters = trainer.description.initial.slice()
  const { schedule: kind, warmupSteps, batchSize, ...rest } = SETTINGS
  const optimiser = createLocalOptimiser({
    trainer,
    batches: dataset.batches(batchSize),
    parameters,
    options: { ...rest, ...ADAM, schedule: { kind, warmupSteps } }
  })
  for (let step = 0; step < steps; step++) await optimiser.step()
  return parameters
}

async function world() {
  const network = createMemoryNetwork({ seed: 'ubar', clock: systemClock })
  const federation = federationHash(manifest)
  const bans: string[] = []
  const book = createRefusalBook({ ban: (peer) => bans.push(peer), now: systemClock.now })
  const join = async (name: string) => {
    const transport = network.join({ name })
    await transport.start()
    return transport
  }
  let final: Float32Array | undefined
  const store = createMemoryStore()
  const participant = await createParticipant({
    config: { label: '', checkpointEvery: 1, training: { ...SETTINGS, ...ADAM, steps: 12, seed: 'victim' } },
    manifest,
    federation,
    transport: await join('victim'),
    trainer: watched(),
    dataset,
    store,
    software: 'peertune/test',
    clock: systemClock,
    log: silentLogger,
    onVerdict: (peer: string, verdict: Verdict) => book.note(peer, verdict),
    onDone: async (parameters) => {
      final = parameters
    }
  })
  /** Somebody that always shows the same vector, whatever it hears. */
  async function partner(name: string, vector: Float32Array) {
    const { schema, initial } = trainer.description
    const shared = { schema, reference: initial }
    const config = {
      self: name,
      federation,
      weight: 96,
      incarnation: name,
      ...shared,
      ...mixingConfig(manifest, shared)
    }
    const transport = await join(name)
    const holder = { parameters: () => vector, add: () => undefined }
    const driver = createExchangeDriver({ transport, clock: systemClock, holder, phase: () => 'done' }, { config })
    driver.start()
    return driver
  }
  return { network, participant, book, bans, partner, final: () => final }
}

describe('UBAR in a node with its trainer', () => {
  it('refuses what loses more than no training, by name, and follows what does better, off the event loop', async () => {
    const { network, participant, book, bans, partner, final } = await world()
    const stop = new AbortController()
    const life = participant.run(stop.signal)
    await until(() => participant.report().rounds.phase === 'done' && participant.report().evaluation !== undefined)
    // Live: what it was done with is what exchanges move from now on.
    const own = final()!
    const before = own.slice()

    const better = await learned(40)
    const liar = await partner(
      'liar',
      better.map((value) => -value)
    )
    const honest = await partner('honest', better)
    await network.connectAll()
    const verdicts = (peer: string) => book.byPeer().get(peer) ?? {}

    for (let time = 1; time <= 3; time++) {
      expect(await liar.exchangeWith('victim')).toEqual({ kind: 'committed' })
      await until(() => verdicts('liar')['exchange/worse-than-start'] === time)
      expect(own).toEqual(before)
    }
    expect(participant.report().driver!.stats().verdicts).toEqual({ 'exchange/worse-than-start': 3 })
    // Other data may be the reason, so it is counted and not punished.
    expect(book.offences().size).toBe(0)
    expect(bans).toEqual([])

    const measured = turns.length + 2
    expect(await honest.exchangeWith('victim')).toEqual({ kind: 'committed' })
    expect(own).toEqual(before)
    await until(() => turns.length >= measured)
    expect(await honest.exchangeWith('victim')).toEqual({ kind: 'committed' })
    await until(() => distance2(own, before) > 0)
    // Half of the way to what it was shown, nothing towards the liar.
    const middle = before.map((value, i) => (value + better[i]!) / 2)
    expect(distance2(own, middle)).toBeLessThan(1e-4 * distance2(before, better))
    expect(verdicts('honest')).toEqual({})

    expect(trainer.pid).not.toBe(process.pid)
    // One of them may see the machine take this thread's processor away for as long; most do not.
    expect(turns.toSorted((a, b) => a - b)[Math.floor(turns.length / 2)]).toBeGreaterThan(20)
    stop.abort()
    await life
  })
})
