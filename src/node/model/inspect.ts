import { trainability, type BlockedNode } from '../../autodiff/trainability.js'
import { flattenGradients } from '../../autodiff/flatten.js'
import type { TaskSpec } from '../../base/federation.js'
import type { PeftMethodName, PeftSpec } from '../../base/peft-spec.js'
import { describeError, isPeertuneError } from '../../base/errors.js'
import { canonicalise } from '../../onnx/canonical/canonicalise.js'
import type { Graph, ValueInfo } from '../../onnx/graph/graph.js'
import { peakLiveBytes } from '../../onnx/graph/live-bytes.js'
import { readModel } from '../../onnx/file/read.js'
import type { Weight } from '../../onnx/graph/weight.js'
import { createMethod } from '../../peft/create-method.js'
import type { BaseModel } from '../../peft/method/method.js'
import { linearModules } from '../../peft/method/target.js'
import { shapeSize } from '../../tensor/schema.js'
import { concreteInputs } from './concrete-inputs.js'
import { namingModel } from './model-errors.js'
import { exporterOf, familyOf } from './model-family.js'
import { type LoadOptions, loadBaseModel, loadTrainableModel } from './program.js'

export interface InspectOptions extends LoadOptions {
  /** What the memory of a step is estimated for. */
  readonly batch?: number
  readonly seq?: number
}

/** Linear layers that are called alike but for the numbers in their path. */
export interface ModuleGroup {
  /** `model.layers.*.self_attn.q_proj` */
  readonly pattern: string
  readonly count: number
  readonly inFeatures: number
  readonly outFeatures: number
}

export interface MethodCount {
  readonly method: PeftMethodName
  /** Trainable parameters with the options of `options`. */
  readonly parameters?: number
  readonly options: string
  /** Why the method does not go with this model. */
  readonly error?: string
}

export interface StepMemory {
  readonly batch: number
  readonly seq: number
  readonly method: string
  /** Megabytes of weights, in a file that all processes share. */
  readonly weightsMb: number
  /** Megabytes of one step's intermediate values at their peak. */
  readonly activationsMb: number
  /** Megabytes in all: with the runtime itself, the parameters, their gradients and the optimiser's moments. */
  readonly totalMb: number
}

export interface InspectReport {
  readonly path: string
  readonly sha256: string
  readonly family: string | undefined
  readonly exporter: string
  readonly opset: number
  readonly task: TaskSpec['kind']
  readonly inputs: readonly Pick<ValueInfo, 'name' | 'type' | 'shape'>[]
  readonly outputs: readonly Pick<ValueInfo, 'name' | 'type' | 'shape'>[]
  readonly weights: { readonly tensors: number; readonly parameters: number }
  readonly modules: readonly ModuleGroup[]
  /** Weights that gradients reach, and nodes in the way of the others. */
  readonly trainable: { readonly tensors: number; readonly of: number; readonly blocked: readonly BlockedNode[] }
  readonly methods: readonly MethodCount[]
  readonly memory: StepMemory | { readonly error: string }
}

/** Resident megabytes of a trainer before it has a model: Node.js and the runtime's own code. */
const RUNTIME_MB = 140
const MEGABYTE = 2 ** 20
const RANK = 8

/** Reads a model and says what can be trained in it. Throws what loading it throws. */
export const inspectModel = (modelPath: string, options: InspectOptions = {}): Promise<InspectReport> =>
  namingModel(modelPath, () => inspectReadable(modelPath, options))

async function inspectReadable(modelPath: string, options: InspectOptions): Promise<InspectReport> {
  const { batch = 1, seq = 128 } = options
  const exported = await readModel(modelPath)
  const { modelSha256, model, base } = await loadBaseModel(modelPath, options)
  const task = taskOf(exported)
  const weights = [...model.weights.values()]
  const canonical = await canonicalise(model, concreteInputs(exported, { batch, seq }))
  const names = weights.map(({ name }) => name).filter((name) => canonical.initializers.has(name))
  const { trainable, blocked } = trainability(canonical, names)
  return {
    path: modelPath,
    sha256: modelSha256,
    // Modules without weights of their own tell, too: Gemma's norms are constants in an export.
    family: familyOf([...new Set([...weights, ...model.graph.nodes].map(({ module = '' }) => module))]),
    exporter: exporterOf(exported),
    opset: exported.opsets[''] ?? 0,
    task: task.kind,
    inputs: exported.inputs,
    outputs: exported.outputs,
    weights: { tensors: weights.length, parameters: sizeOf(weights) },
    modules: groupModules(base),
    trainable: { tensors: trainable.length, of: names.length, blocked },
    methods: METHODS.map((method) => countParameters(method, { base, task })),
    memory: await estimateMemory(modelPath, { task, base, exported, options, batch, seq })
  }
}

const sizeOf = (weights: readonly Weight[]): number =>
  weights.reduce((sum, { initializer }) => sum + shapeSize(initializer.shape), 0)

/** A language model has logits for every position; an image comes as [batch, channels, height, width]. */
function taskOf({ inputs, outputs }: Graph): TaskSpec {
  const logits = outputs.find(({ name }) => name === 'logits') ?? outputs[0]
  if ((logits?.shape.length ?? 0) >= 3) return { kind: 'causal-lm' }
  const classes = Number(logits?.shape.at(-1))
  const labels = Array.from({ length: Number.isInteger(classes) ? classes : 2 }, (_, i) => `label ${i}`)
  const isImage = inputs.some(({ type, shape }) => type.startsWith('float') && shape.length === 4)
  return { kind: isImage ? 'image-classification' : 'sequence-classification', labels }
}

function groupModules({ weights }: BaseModel): ModuleGroup[] {
  const groups = new Map<string, ModuleGroup>()
  for (const { path, inFeatures, outFeatures } of linearModules(weights)) {
    const pattern = path.replaceAll(/(?<=\.|^)\d+(?=\.|$)/g, '*')
    const key = `${pattern} ${inFeatures} ${outFeatures}`
    groups.set(key, { pattern, inFeatures, outFeatures, count: (groups.get(key)?.count ?? 0) + 1 })
  }
  return [...groups.values()]
}

/** Those whose size does not hang on a choice that only the operator can make. */
const METHODS: readonly PeftMethodName[] = [
  'lora',
  'dora',
  'ffa-lora',
  'lora-xs',
  'ia3',
  'bitfit',
  'layernorm',
  'prompt',
  'prefix',
  'bottleneck',
  'full'
]

/** Layers that make the logits are heads, not targets. */
const HEADS = /(^|\.)(classifier|lm_head|score|embed_out|cls|pooler|head)(\.|$)/
const VIRTUAL_TOKENS = 20
const MIDDLE_WIDTH = 64

function specOf(method: PeftMethodName, base: BaseModel): { readonly spec: PeftSpec; readonly options: string } {
  const targets = linearModules(base.weights)
    .map(({ path }) => path)
    .filter((path) => !HEADS.test(path))
  const common = { head: [], seed: 'inspect' }
  const ranked = { ...common, targets, rank: RANK, alpha: 2 * RANK }
  switch (method) {
    case 'lora':
    case 'dora':
    case 'ffa-lora':
    case 'rslora':
      return { spec: { ...ranked, method }, options: `rank ${RANK}, every linear layer but the head` }
    case 'lora-xs':
    case 'ravan':
      return { spec: { ...ranked, method, heads: 1 }, options: `rank ${RANK}, every linear layer but the head` }
    case 'ia3':
      return { spec: { ...common, method, targets, feedforward: [] }, options: 'every linear layer but the head' }
    case 'bitfit':
    case 'layernorm':
      return { spec: { ...common, method, targets: [] }, options: 'all there are' }
    case 'prompt':
    case 'prefix':
      return { spec: { ...common, method, tokens: VIRTUAL_TOKENS }, options: `${VIRTUAL_TOKENS} tokens` }
    case 'bottleneck': {
      const place = { placement: 'pfeiffer', activation: 'relu', width: MIDDLE_WIDTH } as const
      return { spec: { ...common, method, targets: [], ...place }, options: `width ${MIDDLE_WIDTH}` }
    }
    case 'partial':
      return { spec: { ...common, method, targets: [], lastLayers: 1 }, options: 'the last layer' }
    case 'sparse':
      return {
        spec: { ...common, method, targets, density: 0.01, mask: 'random' },
        options: 'one element in a hundred'
      }
    case 'full':
      return { spec: { method, seed: 'inspect' }, options: 'everything' }
  }
}

interface Counting {
  readonly base: BaseModel
  readonly task: TaskSpec
}

function countParameters(method: PeftMethodName, { base, task }: Counting): MethodCount {
  const { spec, options } = specOf(method, base)
  // Its start is the whole model, which need not be read to be counted.
  if (method === 'full') return { method, options, parameters: sizeOf([...base.weights.values()]) }
  try {
    return { method, options, parameters: createMethod(spec, base, task).schema.size }
  } catch (error) {
    if (isPeertuneError(error)) return { method, options, error: describeError(error) }
    throw error
  }
}

interface Estimating extends Counting {
  readonly exported: Graph
  readonly options: LoadOptions
  readonly batch: number
  readonly seq: number
}

async function estimateMemory(modelPath: string, context: Estimating): Promise<InspectReport['memory']> {
  const { task, base, exported, options, batch, seq } = context
  try {
    const { spec, options: method } = specOf('lora', base)
    const model = await loadTrainableModel({ modelPath, task, peft: spec }, options)
    const inputs = concreteInputs(exported, { batch, seq })
    const labels = task.kind === 'causal-lm' ? [batch, seq] : [batch]
    const { graph, gradients } = await model.buildProgram('train', { ...inputs, labels })
    const activations = peakLiveBytes(flattenGradients(graph, gradients))
    const weights = [...graph.initializers.values()].reduce((sum, { data }) => sum + lengthOf(data), 0)
    const trained = 4 * 4 * model.schema.size
    return {
      batch,
      seq,
      method: `lora, ${method}`,
      weightsMb: weights / MEGABYTE,
      activationsMb: activations / MEGABYTE,
      totalMb: RUNTIME_MB + (weights + activations + trained) / MEGABYTE
    }
  } catch (error) {
    if (isPeertuneError(error)) return { error: describeError(error) }
    throw error
  }
}

type Data = NonNullable<ReturnType<Graph['initializers']['get']>>['data']

const lengthOf = (data: Data): number => (data.kind === 'inline' ? data.bytes.length : data.length)
