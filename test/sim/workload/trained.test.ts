import { describe, expect, it } from 'vitest'
import type { Batch, Dataset } from '../../../src/data/batches/batch.js'
import { createDataset } from '../../../src/data/batches/dataset.js'
import { runScenario } from '../../../src/sim/run.js'
import { readScenario } from '../../../src/sim/world/scenario.js'
import type { Training } from '../../../src/sim/workload/trained.js'
import { createSchema } from '../../../src/tensor/schema.js'
import { createLocalOptimiser } from '../../../src/train/optimiser/local-optimiser.js'
import type { Trainer } from '../../../src/train/trainer.js'

const SIZE = 5
const PEERS = 4

/** f(x) = 1/2 sum (x_k - c)^2 on a batch whose only number is c; `turns` of the event loop pass before a gradient is there. */
function quadraticTrainer(
  turns: () => number,
  schema = createSchema([{ name: 'x', shape: [SIZE] }])
): Pick<Trainer, 'description' | 'step' | 'evaluate'> {
  const centreOf = (batch: Batch): number => batch.inputs.centre!.data[0]!
  return {
    description: {
      schema,
      initial: Float32Array.from({ length: schema.size }, (_, k) => k / 7),
      inputs: [],
      modelSha256: '',
      device: { used: 'cpu' }
    },
    async step(parameters, batch) {
      const gradients = parameters.map((value) => value - centreOf(batch))
      for (let left = turns(); left > 0; left--) await new Promise((resolve) => setImmediate(resolve))
      return { loss: 0, gradients }
    },
    async evaluate(parameters, batch) {
      const lossSum = parameters.reduce((sum, value) => sum + 0.5 * (value - centreOf(batch)) ** 2, 0)
      return { lossSum, count: 1, correct: 0 }
    }
  }
}

/** Centres 0, 1, 2, ... by peer: three examples each around its own. */
function datasetOf(peer: number, heldOut = (PEERS - 1) / 2): Dataset {
  const example = (centre: number) => ({ values: Float32Array.of(centre), label: 0 })
  return createDataset({
    training: [peer - 0.3, peer, peer + 0.3].map(example),
    heldOut: [example(heldOut)],
    seed: `peer-${peer}`,
    collate: ([one]) => ({
      inputs: { centre: { type: 'float32', shape: [1], data: one!.values as Float32Array } },
      labels: { shape: [1], data: Int32Array.of(0) }
    })
  })
}

const trainingOf = (turns: () => number = () => 0): Training => ({
  trainer: quadraticTrainer(turns),
  datasets: Array.from({ length: PEERS }, (_, peer) => datasetOf(peer)),
  batchSize: 1,
  optimiser: { learningRate: 0.1, weightDecay: 0 }
})

const scenarioOf = (over: Record<string, unknown> = {}, mixing: Record<string, unknown> = {}) =>
  readScenario({
    seed: 'trained',
    peers: PEERS,
    durationMs: 60_000,
    measureMs: 60_000,
    overlay: { kind: 'complete' },
    workload: { kind: 'trained' },
    training: {},
    mixing: { codec: 'float32', localSteps: 4, totalSteps: 60, settleExchanges: 8, ...mixing },
    ...over
  })

describe('a trained workload', () => {
  it('takes peers that never meet exactly where each gets alone', async () => {
    const training = trainingOf()
    const result = await runScenario(scenarioOf({}, { localSteps: 1000, settleExchanges: 1 }), {
      training: { ...training, datasets: training.datasets.map(() => datasetOf(2)) }
    })
    const parameters = training.trainer.description.initial.slice()
    const lone = createLocalOptimiser({
      trainer: training.trainer,
      batches: datasetOf(2).batches(1),
      parameters,
      options: { ...training.optimiser, schedule: { kind: 'cosine', totalSteps: 60 } }
    })
    for (let step = 0; step < 60; step++) await lone.step()
    // Alike peers whose mean is exchanged stay where they are: the mean of equal vectors.
    expect([...Float32Array.from(result.measurements.at(-1)!.mean)]).toEqual([...parameters])
    expect(result.violations).toEqual([])
  })

  it('brings peers with different data to one another and near the best for all', async () => {
    const { measurements, violations, exchanges } = await runScenario(scenarioOf(), { training: trainingOf() })
    const [first, last] = [measurements[0]!, measurements.at(-1)!]
    expect(violations).toEqual([])
    expect(exchanges).toBeGreaterThan(20)
    // The centres of all peers are 1.5 apart from their mean at most; nobody alone would come closer than 0.5.
    expect(last.merged!.loss).toBeLessThan(0.1 * first.merged!.loss)
    for (const peer of last.peers!) expect(peer.loss).toBeLessThan(0.2 * first.merged!.loss)
  })

  it('goes the same way however long a gradient takes', async () => {
    let turn = 0
    const [one, other] = await Promise.all([
      runScenario(scenarioOf({}, { totalSteps: 12 }), { training: trainingOf() }),
      runScenario(scenarioOf({}, { totalSteps: 12 }), { training: trainingOf(() => (turn++ * 7) % 3) })
    ])
    expect(other.traceHash).toBe(one.traceHash)
  })

  it('comes back from crashes with the optimiser and the place in the data of the checkpoint', async () => {
    const crashing = scenarioOf({ peer: { crashesPerMinute: 6, checkpointEvery: 2, downMs: [100, 500] } })
    const { violations, counts, drift, measurements } = await runScenario(crashing, { training: trainingOf() })
    expect(counts.crash).toBeGreaterThan(5)
    expect(violations).toEqual([])
    // Without the moments of the past the mean would still be right; without what steps have added it would not.
    expect(drift).toBeLessThan(1e-6)
    expect(measurements.at(-1)!.merged!.loss).toBeLessThan(0.2 * measurements[0]!.merged!.loss)
  })

  const FACTORS = createSchema([
    { name: 'layer.lora_A.weight', shape: [2, 3] },
    { name: 'layer.lora_B.weight', shape: [3, 2] }
  ])

  it('can be attacked through the products of its factors, and clipping answers', async () => {
    // The honest go down, to -1 on average; the lie is as far up.
    const datasets = [0, -1, -2, -3].map((centre) => datasetOf(centre, -1))
    const training = { ...trainingOf(), trainer: quadraticTrainer(() => 0, FACTORS), datasets }
    const excess = async (attack: string, clip: number) => {
      const attackers = [{ attack, count: 1 }]
      const { measurements, violations } = await runScenario(scenarioOf({ attackers }, { clip }), { training })
      expect(violations).toEqual([])
      return measurements.at(-1)!.merged!.loss
    }
    const [quiet, plain, clipped] = [
      await excess('silence', 0),
      await excess('gradient-assembly', 0),
      await excess('gradient-assembly', 0.5)
    ]
    expect(plain).toBeGreaterThan(3 * quiet)
    expect(clipped).toBeLessThan(0.5 * plain)
  })

  it('without factors has nothing to assemble, and without classes no labels to flip', async () => {
    for (const [attack, message] of [
      ['gradient-assembly', /needs a method with factors/],
      ['label-flip', /needs examples of several classes/]
    ] as const)
      await expect(
        runScenario(scenarioOf({ attackers: [{ attack, count: 1 }] }), { training: trainingOf() })
      ).rejects.toThrow(message)
  })

  it('mirrors the labels of a liar that flips them, and of nobody else', async () => {
    const labels: number[][] = [[], []]
    const summary = { kind: 'table', training: 3, heldOut: 1, skipped: 0, labels: [] as never[] }
    const datasets = [0, 1, 2, 3].map((peer): Dataset => {
      const example = { values: Float32Array.of(peer), label: 0 }
      return {
        ...createDataset({
          training: [example, example],
          heldOut: [example],
          seed: 'flip',
          collate: () => ({
            inputs: { centre: { type: 'float32', shape: [1], data: Float32Array.of(peer) } },
            labels: { shape: [3], data: Int32Array.of(0, 2, -100) }
          })
        }),
        summary: { ...summary, labels: ['a', 'b', 'c', 'd'].map((name) => ({ name, training: 1, heldOut: 0 })) }
      }
    })
    const trainer = quadraticTrainer(() => 0)
    const seeing: typeof trainer = {
      ...trainer,
      step(parameters, batch) {
        labels[batch.inputs.centre!.data[0] === 3 ? 1 : 0]!.push(...batch.labels.data)
        return trainer.step(parameters, batch)
      }
    }
    const scenario = scenarioOf({ attackers: [{ attack: 'label-flip', count: 1 }] }, { totalSteps: 8 })
    await runScenario(scenario, { training: { ...trainingOf(), trainer: seeing, datasets } })
    expect(new Set(labels[0])).toEqual(new Set([0, 2, -100]))
    expect(new Set(labels[1])).toEqual(new Set([3, 1, -100]))
  })

  it('needs its section, and a data source for each peer', async () => {
    expect(() => readScenario({ workload: { kind: 'trained' } })).toThrow(/training: expected a section/)
    expect(() => readScenario({ training: {} })).toThrow(/training: expected a section/)
    await expect(runScenario(scenarioOf({ peers: 3 }), { training: trainingOf() })).rejects.toThrow(
      '4 data sources for 3 peers'
    )
  })
})
