import { afterEach, describe, expect, it } from 'vitest'
import { entryUrl } from '../../../src/base/entry.js'
import type { FederationManifest } from '../../../src/base/federation.js'
import { seededRng } from '../../../src/base/rng.js'
import { payloadHeader } from '../../../src/codec/wire/payload.js'
import { defaultGamma } from '../../../src/codec/registry.js'
import type { Edge } from '../../../src/consensus/exchange/edges.js'
import type { ExchangeConfig, Side } from '../../../src/consensus/exchange/types.js'
import type { MixedSides } from '../../../src/consensus/exchange/encoded-side.js'
import { type ExchangeTask, perform } from '../../../src/consensus/exchange/tasks.js'
import { shareable, sharedCopy, startExchangeTasks, taskConfig } from '../../../src/node/pairwise/tasks.js'
import type { ExchangeTasks } from '../../../src/node/participant/exchange-types.js'
import { weightedMean } from '../../../src/tensor/linear.js'
import { createSchema } from '../../../src/tensor/schema.js'
import { exchangeWorld, randomVector } from './exchange-world.js'

const SCHEMA = createSchema([
  { name: 'q.lora_A.weight', shape: [4, 30] },
  { name: 'q.lora_B.weight', shape: [20, 4] },
  { name: 'head.bias', shape: [7] }
])

const manifest = (codec: FederationManifest['mixing']['codec']): FederationManifest => ({
  peertune: 1,
  name: 'tasks',
  model: { sha256: 'ab'.repeat(32) },
  task: { kind: 'causal-lm' },
  peft: { method: 'lora', rank: 4, alpha: 8, targets: ['q_proj'], head: [], seed: 's' },
  mixing: {
    localSteps: 4,
    codec,
    gamma: defaultGamma(codec),
    clip: 0.5,
    maxPull: 0.5,
    settleExchanges: 1,
    isolationFactor: 10
  }
})

function vector(...seed: (string | number)[]): Float32Array {
  const rng = seededRng('tasks', ...seed)
  return Float32Array.from({ length: SCHEMA.size }, () => rng.uniform() - 0.5)
}

const threads: ExchangeTasks[] = []
afterEach(async () => {
  for (const thread of threads.splice(0)) await thread.close()
})

function world(codec: FederationManifest['mixing']['codec']) {
  const init = {
    config: { self: 'a', federation: 'f'.repeat(64), weight: 3, incarnation: 'x', reference: vector('x0') },
    manifest: manifest(codec),
    schema: SCHEMA
  }
  const thread = startExchangeTasks(entryUrl('node/pairwise/tasks-main.js'), init)
  threads.push(thread)
  return { thread, config: taskConfig(init) }
}

describe('the exchange thread', () => {
  it.each(['int8', 'topk-edge', 'powergossip'] as const)(
    'comes to the results of this thread with %s',
    async (codec) => {
      const { thread, config } = world(codec)
      const both = async <T>(task: ExchangeTask): Promise<T> => {
        const here = perform(config, structuredClone(task))
        const there = await thread.run(task)
        expect(there).toEqual(here)
        return there as T
      }
      await both({ task: 'distance-from-start', parameters: vector('p') })
      let edge: Edge | undefined
      for (let turn = 0; turn < 3; turn++) {
        const exchangeId = `${turn}`.repeat(32)
        const own = await both<Side>({ task: 'own-side', edge, parameters: sharedCopy(vector('p', turn)), exchangeId })
        const header = payloadHeader(own.payload)
        const read = await both<{ readonly value: Side }>({ task: 'partner-side', edge, header, payload: own.payload })
        const partner = shareable(vector('partner', turn))
        const mix = {
          task: 'mix',
          own: read.value.vector,
          partner,
          partnerWeight: 5,
          terms: { radius: 0.2 },
          partnerTerms: { radius: 0.3 },
          scene: { peer: 'b', recent: new Map(), step: 7 },
          turns: turn
        } as const
        const mixed = await both<{ readonly value: MixedSides }>(mix)
        expect(mixed.value.increment.length).toBe(SCHEMA.size)
        const step = { exchangeId, initiatorSha256: '1', responderSha256: '2', own: own.vector, partner }
        edge = await both<Edge | undefined>({ task: 'edge', edge, step })
      }
      expect(edge?.reference.sequence).toBe(codec === 'int8' ? undefined : 3)
    }
  )

  it('hands our errors over with their code, and works on', async () => {
    const { thread } = world('int8')
    const bad = vector('bad').fill(Number.NaN, 3, 4)
    await expect(
      thread.run({ task: 'own-side', edge: undefined, parameters: bad, exchangeId: 'e' })
    ).rejects.toMatchObject({ code: 'codec/not-finite', facts: { index: 3 } })
    expect(await thread.run({ task: 'distance-from-start', parameters: vector('x0') })).toBe(0)
  })

  it('rejects what it did not finish when it ends, and starts again for the next task', async () => {
    const { thread, config } = world('int8')
    const task: ExchangeTask = { task: 'distance-from-start', parameters: vector('q') }
    const lost = thread.run(task)
    const [ended] = await Promise.allSettled([lost, thread.close()])
    if (ended.status === 'rejected') expect(ended.reason).toMatchObject({ code: 'node/exchange-thread-ended' })
    expect(await thread.run(task)).toBe(perform(config, task))
  })
})

/** Tasks of the machine done later, each after a few turns of the event loop. */
const slowly =
  (seed: string) =>
  (config: ExchangeConfig): ExchangeTasks => {
    const rng = seededRng(seed, config.self)
    return {
      run: async (task) => {
        for (let turns = rng.integer(4); turns >= 0; turns--) await new Promise(setImmediate)
        return perform(config, task)
      },
      close: () => Promise.resolve()
    }
  }

describe('a driver whose arithmetic is done elsewhere', () => {
  it('comes to the same parameters as one that does it itself, while it is being trained', async () => {
    const results: Float32Array[][] = []
    for (const tasks of [undefined, slowly('same')]) {
      const { network, member } = exchangeWorld({ seed: 'same' })
      const a = await member('a', 3, undefined, undefined, tasks && { tasks })
      const b = await member('b', 5, undefined, undefined, tasks && { tasks })
      await network.connectAll()
      for (let turn = 0; turn < 4; turn++) {
        expect(await (turn % 2 === 0 ? a : b).driver.exchangeWith(turn % 2 === 0 ? 'b' : 'a')).toEqual({
          kind: 'committed'
        })
        a.live[turn]! += 0.25
      }
      results.push([a.live, b.live])
      await Promise.all([a.driver.stop(), b.driver.stop()])
    }
    expect(results[1]).toEqual(results[0])
  })

  it('loses nothing of the weighted mean when everybody calls everybody and links are cut', async () => {
    const seed = 'cuts'
    const weights = [3, 5, 2, 7]
    const { network, member } = exchangeWorld({ seed })
    const members = await Promise.all(
      weights.map((weight, i) => member(`p${i}`, weight, undefined, randomVector(1, seed, i), { tasks: slowly(seed) }))
    )
    await network.connectAll()
    const mean = () =>
      weightedMean(
        members.map(({ live }) => live),
        weights
      )
    const before = mean()
    network.setFaults({ channelCut: { probability: 0.3, withinFrames: 4 } })
    const rng = seededRng(seed)
    let committed = 0
    for (let turn = 0; turn < 40; turn++) {
      const [a, b, c, d] = rng.shuffle(members)
      const outcomes = await Promise.all([
        a!.driver.exchangeWith(b!.name),
        c!.driver.exchangeWith(d!.name),
        d!.driver.exchangeWith(a!.name)
      ])
      committed += outcomes.filter(({ kind }) => kind === 'committed').length
    }
    network.setFaults({})
    for (const { driver } of members)
      while (driver.inDoubt().length > 0) await driver.exchangeWith(driver.inDoubt()[0]!)
    expect(committed).toBeGreaterThan(20)
    const after = mean()
    expect(Math.hypot(...after.map((value, i) => value - before[i]!)) / Math.hypot(...before)).toBeLessThan(1e-6)
    await Promise.all(members.map(({ driver }) => driver.stop()))
  })

  it('tells whoever asked when our own parameters cannot be sent', async () => {
    const { network, member } = exchangeWorld({ seed: 'nan' })
    const a = await member('a', 3, undefined, undefined, { tasks: slowly('nan') })
    await member('b', 5, undefined, undefined, { tasks: slowly('nan') })
    await network.connectAll()
    a.live[0] = Number.NaN
    await expect(a.driver.exchangeWith('b')).rejects.toMatchObject({ code: 'codec/not-finite' })
  })
})
