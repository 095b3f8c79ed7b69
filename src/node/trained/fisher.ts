import type { TaskSpec } from '../../base/federation.js'
import type { SparseSpec } from '../../base/peft-spec.js'
import type { Dataset } from '../../data/batches/batch.js'
import type { BaseModel, SparseMasks } from '../../peft/method/base-model.js'
import { elementsOf, largestElements } from '../../peft/methods/sparse.js'
import { type LinearModule, linearModules, matchModules } from '../../peft/method/target.js'
import { type ParameterEntry, viewOf } from '../../tensor/schema.js'
import type { Trainer, TrainerDescription } from '../../train/trainer.js'
import { openLocalTrainer } from '../model/open-trainer.js'
import { loadBaseModel, type LoadOptions } from '../model/program.js'

export interface FisherOptions extends LoadOptions {
  readonly modelPath: string
  readonly task: TaskSpec
  /** Whose targets and density. */
  readonly sparse: SparseSpec
  /** Training examples to go by. */
  readonly examples: number
  readonly openDataset: (description: TrainerDescription) => Promise<Dataset>
}

/**
 * The elements of each target with the most Fisher information about one peer's data: F = mean over examples of
 * (d loss / d w)^2 at the base model's own weights, the empirical diagonal Fisher by which FISH Mask chooses (Sung et al.
 * 2021, https://arxiv.org/abs/2111.09839). Data differs from peer to peer and so would their masks: one is made, and its
 * hash goes into the manifest.
 */
export async function fisherMasks(options: FisherOptions): Promise<SparseMasks> {
  const { modelPath, task, sparse, examples, openDataset } = options
  const { base } = await loadBaseModel(modelPath, options)
  const { targets, head, seed } = sparse
  const modules = matchModules(withoutHeads(base, head), targets)
  const peft = { method: 'partial', targets: modules.map(({ path }) => path), lastLayers: 0, head: [], seed } as const
  const spec = { modelPath, task, peft, device: 'cpu', threads: 1, activationCacheMb: 0 } as const
  const trainer = await openLocalTrainer(spec, options)
  try {
    const dataset = await openDataset(trainer.description)
    const fisher = await diagonalFisher(trainer, dataset, Math.min(examples, dataset.size))
    return new Map(modules.map((module) => [module.path, chosen(module, fisher, { trainer, sparse })]))
  } finally {
    await trainer.close()
  }
}

const withoutHeads = (base: BaseModel, head: readonly string[]): LinearModule[] => {
  const linears = linearModules(base.weights)
  const heads = matchModules(linears, head)
  return linears.filter((module) => !heads.includes(module))
}

/** Mean of the squared gradients of single examples, at the start. float32[schema.size], summed in float64. */
export async function diagonalFisher(
  trainer: Pick<Trainer, 'description' | 'step'>,
  dataset: Pick<Dataset, 'batches'>,
  examples: number
): Promise<Float32Array> {
  const { schema, initial } = trainer.description
  const batches = dataset.batches(1)
  const sums = new Float64Array(schema.size)
  for (let example = 0; example < examples; example++) {
    const { gradients } = await trainer.step(initial, batches.next())
    for (let i = 0; i < sums.length; i++) sums[i]! += gradients[i]! * gradients[i]!
  }
  return Float32Array.from(sums, (sum) => sum / examples)
}

interface ChosenFrom {
  readonly trainer: Pick<Trainer, 'description'>
  readonly sparse: SparseSpec
}

function chosen(module: LinearModule, fisher: Float32Array, { trainer, sparse }: ChosenFrom): Uint32Array {
  const entry = trainer.description.schema.entries.find(({ name }) => name === module.weight.name) as ParameterEntry
  return largestElements(outFirst(module, viewOf(fisher, entry)), elementsOf(module, sparse.density))
}

/** From the layout that Hugging Face stores, to [out, in]. */
function outFirst({ weight, outFirst, inFeatures, outFeatures }: LinearModule, values: Float32Array): Float32Array {
  if (outFirst !== weight.transposed) return values
  return Float32Array.from(
    values,
    (_, at) => values[(at % inFeatures) * outFeatures + Math.floor(at / inFeatures)] as number
  )
}
