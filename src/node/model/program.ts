import { join } from 'node:path'
import { differentiate, gradientName } from '../../autodiff/backward.js'
import { attachEvaluation, attachLoss, LABELS, logitsOf } from '../../autodiff/loss.js'
import { recomputeWithin } from '../../autodiff/recompute.js'
import { splitFrozen } from '../../autodiff/split-frozen.js'
import { attachRegressionEvaluation, attachSquaredError } from '../../autodiff/squared-error.js'
import { canonicalJson, sha256Hex } from '../../base/bytes.js'
import { isPeertuneError } from '../../base/errors.js'
import { homeFolder } from '../../base/home.js'
import { canonicalise, nameModel } from '../../onnx/canonical/canonicalise.js'
import { checkExternalData } from '../../onnx/file/check-weights.js'
import type { Graph } from '../../onnx/graph/graph.js'
import { groupQueries } from '../../onnx/canonical/grouped-attention.js'
import { largestExactCode } from '../../onnx/runtime/int8-probe.js'
import { computeInt8 } from '../../onnx/int8/products.js'
import { createInt8Store, type Int8Store } from '../../onnx/int8/store.js'
import { scalesOf } from '../../onnx/int8/quantised.js'
import { readModel } from '../../onnx/file/read.js'
import { hoistRowSelections, selectOutputRows } from '../../onnx/canonical/select-rows.js'
import type { NamedWeights, Weight } from '../../onnx/graph/weight.js'
import { readWeight, type SharedModel, shareWeights } from '../../onnx/file/weights.js'
import { createMethod } from '../../peft/create-method.js'
import { openMasks } from '../../peft/files/mask-file.js'
import type { BaseModel, PeftMethod } from '../../peft/method/method.js'
import { type BuildProgram, LABEL_ROWS, type Program, type ProgramKind } from '../../train/step/program.js'
import type { Arithmetic, TrainerSpec } from '../../train/trainer.js'
import { checkLabels } from './check-labels.js'
import { smallBatch } from './concrete-inputs.js'
import { refuseNonFiniteOnce } from '../host/finite-record.js'
import { namingModel } from './model-errors.js'
import { modelSha256 } from '../config/model-hash.js'
import { onceOnMachine } from '../host/once-on-machine.js'
import { packageVersion } from '../host/version.js'

/** A base model with a federation's PEFT method on it, ready to make graphs for any shape of batch. */
export interface TrainableModel {
  readonly modelSha256: string
  readonly schema: PeftMethod['schema']
  /** The common seeded start. */
  readonly initial: Float32Array
  /** The exported model's own inputs. */
  readonly inputs: Graph['inputs']
  readonly buildProgram: BuildProgram
  /**
   * Makes the graph of a small batch. Throws what any other batch would run into, too: `autodiff/no-rule` for an operator
   * without a derivative between an adapter and the loss, `config/labels-do-not-fit` and the like.
   */
  refuseUntrainable(): Promise<void>
}

export interface LoadOptions {
  /** Where the weights of models that carry them inline are put, for all nodes of this machine to share. */
  readonly weightsDir?: string
  /** Megabytes that the activations of one training step may take; parts of the forward pass run twice to stay below. */
  readonly memoryMb?: number
  /** Megabytes kept of the frozen part's activations, by example; 0 for none. */
  readonly activationCacheMb?: number
  /** What training steps multiply frozen matrices in; `float32` by default. */
  readonly arithmetic?: Arithmetic
  /** Finds the largest code of matrices in 8 bits; asks the kernels of this machine by default. */
  readonly largestCode?: () => Promise<number>
}

const defaultWeightsDir = (): string =>
  join(process.env.XDG_CACHE_HOME ?? join(homeFolder(process.env), '.cache'), 'peertune', 'weights')

/** A base model and the method on it, apart from any shape of batch. */
export interface AdaptedModel extends Parts {
  readonly modelSha256: string
  readonly base: BaseModel
}

/** A base model by itself. */
export interface LoadedBase {
  readonly modelSha256: string
  readonly model: NamedWeights
  /** Folder of the files that its external weights lie in. */
  readonly externalDir: string
  readonly base: BaseModel
}

/**
 * Reads the exporter's file, names its weights by module, shares them and looks at each number once. Throws `onnx/*`,
 * naming the file.
 */
export const loadBaseModel = (modelPath: string, options: LoadOptions = {}): Promise<LoadedBase> =>
  namingModel(modelPath, () => openBaseModel(modelPath, options))

async function openBaseModel(
  modelPath: string,
  { weightsDir = defaultWeightsDir() }: LoadOptions
): Promise<LoadedBase> {
  const sha256 = await modelSha256(modelPath)
  const exported = await readModel(modelPath)
  await checkExternalData(exported, modelPath)
  const named = nameModel(exported)
  const shared = await shareWeights(named.graph, { modelPath, sha256, cacheDir: weightsDir })
  const weights = relocate(named.weights, shared)
  const { graph, externalDir } = shared
  const stored = [...weights.values(), ...scalesOf(graph)]
  await refuseNonFiniteOnce(stored, { sha256, weightsDir, externalDir })
  const base = { weights, graph, read: (weight: Weight['initializer']) => readWeight(weight, externalDir) }
  return { modelSha256: sha256, model: { graph, weights }, externalDir, base }
}

/** The base model with the PEFT method on it. */
export async function loadAdaptedModel(
  { modelPath, task, peft, maskFile }: AdaptedSpec,
  options: LoadOptions = {}
): Promise<AdaptedModel> {
  const { base, ...loaded } = await loadBaseModel(modelPath, options)
  const masks = await openMasks(maskFile)
  return { ...loaded, base, method: createMethod(peft, { ...base, masks }, task) }
}

/** What a method is put on, and from which files. */
export type AdaptedSpec = Pick<TrainerSpec, 'modelPath' | 'task' | 'peft' | 'maskFile'>

/**
 * The story of a training graph, in order: read the exporter's file, name its weights by module, share them, put the
 * PEFT method on it, and then for each shape of batch: canonicalise, adapt, add the loss, differentiate.
 * Throws `onnx/*` errors for the file and `config/*` for what the method does not find in it.
 */
export async function loadTrainableModel(spec: AdaptedSpec, options: LoadOptions = {}): Promise<TrainableModel> {
  const { modelSha256, ...parts } = await loadAdaptedModel(spec, options)
  const { schema, initial } = parts.method
  const { modelPath, task, peft } = spec
  const int8 = options.arithmetic === 'int8' ? await openInt8({ modelSha256, ...parts }, options) : undefined
  return {
    modelSha256,
    schema,
    initial,
    inputs: parts.model.graph.inputs,
    buildProgram: (kind, shapes) =>
      namingModel(modelPath, () => build(kind, shapes, { parts, task, ...(int8 && { int8 }), ...options })),
    refuseUntrainable: () => {
      const { weightsDir = defaultWeightsDir() } = options
      const what = sha256Hex(canonicalJson([task, peft, packageVersion()])).slice(0, 16)
      return namingModel(modelPath, () =>
        onceOnMachine(join(weightsDir, `${modelSha256}.trains-${what}`), () =>
          build('train', smallBatch(task, parts.model.graph), { parts, task }).then(() => true, passUnlessOfAnyBatch)
        )
      )
    }
  }
}

/** What has nothing to do with the size of a batch. */
const OF_ANY_BATCH = ['autodiff/no-rule', 'autodiff/no-logits', 'autodiff/not-scalar', 'config/labels-do-not-fit']

/** Other batches may work where the small one did not: that is no reason to refuse a model, and no proof that it trains. */
function passUnlessOfAnyBatch(error: unknown): false {
  if (!isPeertuneError(error) || OF_ANY_BATCH.includes(error.code)) throw error
  return false
}

const openInt8 = async (
  { modelSha256, externalDir }: Pick<AdaptedModel, 'modelSha256' | 'externalDir'>,
  { weightsDir = defaultWeightsDir(), largestCode = largestExactCode }: LoadOptions
): Promise<Int8Store> =>
  createInt8Store({
    directory: join(weightsDir, `${modelSha256}.int8`),
    externalDir,
    largest: await largestCode()
  })

/** Points at the shared file, so that the bytes of the model file can be collected; quantised weights go by other names. */
function relocate(weights: ReadonlyMap<string, Weight>, { graph }: SharedModel): ReadonlyMap<string, Weight> {
  const at = (name: string): Weight['initializer'] | undefined => graph.initializers.get(name)
  return new Map(
    Array.from(weights, ([name, weight]) => [
      name,
      { ...weight, initializer: at(name) ?? at(weight.initializer.name) ?? weight.initializer }
    ])
  )
}

interface Parts {
  readonly model: NamedWeights
  readonly method: PeftMethod
  readonly externalDir: string
}

interface BuildOptions extends LoadOptions {
  readonly parts: Parts
  /** For training in 8 bits. */
  readonly int8?: Int8Store
  readonly task: TrainerSpec['task']
}

/** What a task adds to the graph. */
const lossOf = ({ kind }: TrainerSpec['task']) =>
  kind === 'regression'
    ? { attach: attachSquaredError, attachMeasures: attachRegressionEvaluation }
    : { attach: attachLoss, attachMeasures: attachEvaluation }

async function build(
  kind: ProgramKind,
  { [LABELS]: labels, [LABEL_ROWS]: labelRows, ...inputs }: Parameters<BuildProgram>[1],
  { parts: { model, method, externalDir }, task, int8, memoryMb, activationCacheMb = 0 }: BuildOptions
): Promise<Program> {
  const [examples = []] = Object.values(inputs)
  const canonical = await canonicalise(model, method.graphInputs(inputs))
  const adapted = groupQueries(method.rewrite(canonical, labels))
  // A regression says itself what it expects.
  if (task.kind !== 'regression') checkLabels(task, adapted)
  const forward = forwardGraph(adapted, labelRows?.[0])
  const parameters = method.schema.entries.map(({ name }) => name)
  const { attach, attachMeasures } = lossOf(task)
  if (kind === 'evaluate') return { graph: attachMeasures(forward), externalDir, parameters, gradients: [] }
  const cut = { parameters, perBatch: [LABEL_ROWS], batchSize: examples[0] ?? 1 }
  const split = activationCacheMb > 0 ? splitFrozen(forward, cut) : undefined
  const { graph, loss, seeds } = attach(split?.trained ?? forward)
  const training = differentiate(graph, { loss, seeds, parameters, constants: method.detached })
  const within =
    memoryMb === undefined ? training : recomputeWithin(training, { forward: graph, bytes: memoryMb * 2 ** 20 })
  const program = {
    graph: within,
    externalDir,
    parameters,
    gradients: parameters.map(gradientName),
    ...(split && { frozen: { graph: split.frozen, values: split.boundary } })
  }
  if (int8 === undefined) return program
  // Who sets a bound for memory has no room for a second copy of the matrices.
  return { ...inInt8(program, int8, headMatrices(forward)), prepack: memoryMb === undefined }
}

/**
 * Matrices that the logits come out of. What they are multiplied by is coded in 16 bits: an error of the logits goes into
 * every gradient, and in a row of probabilities all but the likeliest words would round to nothing.
 */
function headMatrices(forward: Graph): ReadonlySet<string> {
  const producers = new Map(forward.nodes.flatMap((node) => node.outputs.map((output) => [output, node] as const)))
  let node = producers.get(logitsOf(forward))
  while (node?.op === 'Reshape') node = producers.get(node.inputs[0] as string)
  return new Set(node?.inputs.filter((input) => forward.initializers.has(input)))
}

function inInt8(program: Program, store: Int8Store, fine: ReadonlySet<string>): Program {
  const convert = (graph: Graph): Graph => {
    const converted = computeInt8(graph, { weight: store.weight, fine })
    store.adopt(converted)
    return converted
  }
  const { graph, frozen } = program
  return {
    ...program,
    graph: convert(graph),
    externalDir: store.directory,
    ...(frozen && { frozen: { ...frozen, graph: convert(frozen.graph) } })
  }
}

/** With every row computed only where it is read: logits at the labels that count, a classifier at its pooled position. */
function forwardGraph(adapted: Graph, labelRows: number | undefined): Graph {
  if (labelRows === undefined) return hoistRowSelections(adapted)
  return hoistRowSelections(
    selectOutputRows(adapted, { output: logitsOf(adapted), rows: LABEL_ROWS, count: labelRows })
  )
}
