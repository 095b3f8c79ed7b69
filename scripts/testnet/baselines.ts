import { systemClock } from '../../src/base/clock.js'
import { entryUrl } from '../../src/base/entry.js'
import { silentLogger } from '../../src/base/log.js'
import type { Dataset } from '../../src/data/batches/batch.js'
import { openDataset } from '../../src/data/source.js'
import type { DataSpec } from '../../src/data/spec.js'
import { type ChildTrainer, spawnTrainer } from '../../src/train/process/child-trainer.js'
import type { ParameterSchema } from '../../src/tensor/schema.js'
import { evaluateDataset } from '../../src/train/evaluate.js'
import { createLocalOptimiser } from '../../src/train/optimiser/local-optimiser.js'
import type { Scenario } from './scenario.js'

/** What the testnet compares with: the same engine, data and hyperparameters, without the network. */
export interface Bench {
  /** The metric of a parameter vector on the held-out examples. */
  measure(parameters: Float32Array): Promise<number>
  /** Trains from the common start on `data` alone for `steps` and returns the metric. */
  train(data: DataSpec, steps: number): Promise<number>
  /** Training examples a source holds: its weight in the mean. */
  examples(data: DataSpec): Promise<number>
  readonly initial: Float32Array
  readonly schema: ParameterSchema
  close(): Promise<void>
}

/** One trainer process; two of them keep two cores busy. */
export async function openBench(scenario: Scenario): Promise<Bench> {
  const trainer = await spawnTrainer({
    entry: entryUrl('node/model/trainer-main.js'),
    spec: { ...scenario.trainer, threads: 1 },
    clock: systemClock,
    log: silentLogger
  })
  const engine: Engine = { scenario, trainer }
  const heldOut = await openDataset(scenario.dataOfPeer(0), scenario.manifest.task, trainer.description)
  const open = (data: DataSpec) => openDataset(data, scenario.manifest.task, trainer.description)
  const measure = (parameters: Float32Array) => measureOn(engine, heldOut, parameters)
  return {
    initial: trainer.description.initial,
    schema: trainer.description.schema,
    measure,
    examples: async (data) => (await open(data)).size,
    train: async (data, steps) => measure(await trainAlone(engine, await open(data), steps)),
    close: () => trainer.close()
  }
}

/** What a scenario is trained on. */
interface Engine {
  readonly scenario: Scenario
  readonly trainer: ChildTrainer
}

async function measureOn({ scenario, trainer }: Engine, heldOut: Dataset, parameters: Float32Array): Promise<number> {
  const { accuracy, loss } = await evaluateDataset(trainer, parameters, heldOut.evaluation(scenario.training.batchSize))
  return scenario.metric === 'accuracy' ? accuracy : loss
}

async function trainAlone({ scenario, trainer }: Engine, dataset: Dataset, steps: number): Promise<Float32Array> {
  const { batchSize, learningRate, weightDecay } = scenario.training
  const parameters = trainer.description.initial.slice()
  const optimiser = createLocalOptimiser({
    trainer,
    batches: dataset.batches(batchSize),
    parameters,
    options: { learningRate, weightDecay, schedule: { kind: 'cosine', totalSteps: steps } }
  })
  for (let step = 0; step < steps; step++) await optimiser.step()
  return parameters
}
