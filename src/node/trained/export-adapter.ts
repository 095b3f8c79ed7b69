import type { TaskSpec } from '../../base/federation.js'
import { type PeftPlan, type PeftSpec, specsOf } from '../../base/peft-spec.js'
import { hubOrigin } from '../../hub/reference.js'
import { canonicalise } from '../../onnx/canonical/canonicalise.js'
import type { TaskType } from '../../peft/files/adapter-config.js'
import { writeAdapter } from '../../peft/files/adapter-format.js'
import { attentionLayers } from '../../peft/rewrite/attention.js'
import { asOneLora } from '../../peft/methods/dual.js'
import { type AdapterPart, partOf, type PlannedTensors } from '../../peft/method/private.js'
import { TOKENS } from '../../peft/rewrite/virtual-tokens.js'
import { type ParameterSchema, viewOf } from '../../tensor/schema.js'
import { type AdaptedModel, type LoadOptions, loadAdaptedModel } from '../model/program.js'

export interface TrainedAdapter {
  readonly modelPath: string
  readonly task: TaskSpec
  readonly peft: PeftPlan
  /** See `NodeConfig.maskFile`. */
  readonly maskFile?: string
  readonly schema: ParameterSchema
  readonly parameters: Float32Array
}

/** Methods whose files hold more than the parameters: frozen factors, or facts of the model. */
const NEED_MODEL: ReadonlySet<PeftSpec['method']> = new Set(['ffa-lora', 'lora-xs', 'ravan', 'prompt', 'prefix'])

/**
 * Writes a folder for Hugging Face PEFT; see peft/files/adapter-format.ts for the methods it does not have. The base model is
 * read only for methods that need it. True for what PEFT loads.
 */
export async function exportAdapter(
  folder: string,
  trained: TrainedAdapter,
  { part = 'all', ...options }: LoadOptions & { readonly part?: AdapterPart } = {}
): Promise<boolean> {
  const { task, peft: plan, schema, parameters } = trained
  const origin = hubOrigin(trained.modelPath)
  const facts = { taskType: taskTypeOf(task), baseModel: origin?.repo, revision: origin?.sha }
  if (!specsOf(plan).some((spec) => NEED_MODEL.has(spec.method) || ('start' in spec && spec.start === 'svd'))) {
    const tensors = schema.entries.map((entry) => ({ ...entry, values: viewOf(parameters, entry) }))
    return writeAdapter(folder, { ...forFile({ tensors, plan }, part), ...facts })
  }
  const adapted = await loadAdaptedModel(trained, options)
  return writeAdapter(folder, {
    ...forFile({ tensors: adapted.method.exported(parameters), plan }, part),
    ...facts,
    attentionHeads: await attentionHeads(plan, adapted)
  })
}

/** The part asked for; of a shared and a private adapter together, the one that does what both do. */
function forFile(trained: PlannedTensors, part: AdapterPart): PlannedTensors {
  if (part !== 'all') return partOf(trained, part)
  return asOneLora(trained) ?? trained
}

const TASK_TYPES: Readonly<Record<TaskSpec['kind'], TaskType | undefined>> = {
  'causal-lm': 'CAUSAL_LM',
  'instruction-tuning': 'CAUSAL_LM',
  'sequence-classification': 'SEQ_CLS',
  'token-classification': 'TOKEN_CLS',
  // A regression is a sequence classification of one label, as in transformers; an image model has no type in PEFT.
  regression: 'SEQ_CLS',
  'image-classification': undefined
}

const taskTypeOf = ({ kind }: TaskSpec): TaskType | undefined => TASK_TYPES[kind]

/** Any short sequence tells how many heads the keys have. */
const PROBE_LENGTH = 4

/** PEFT must be told for prefix tuning, and the tensors do not tell. */
async function attentionHeads(peft: PeftPlan, { model }: AdaptedModel): Promise<number | undefined> {
  if (!specsOf(peft).some(({ method }) => method === 'prefix' || method === 'prompt')) return undefined
  const tokens = model.graph.inputs.find(({ name }) => name === TOKENS)
  if (tokens === undefined) return undefined
  const [layer] = attentionLayers(
    await canonicalise(model, Object.fromEntries(model.graph.inputs.map(({ name }) => [name, [1, PROBE_LENGTH]])))
  )
  return layer?.keys.shape[layer.keys.axes.indexOf('head')]
}
