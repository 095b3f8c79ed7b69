import { PeertuneError } from '../../base/errors.js'
import type { TaskSpec } from '../../base/federation.js'
import { readModel } from '../../onnx/file/read.js'
import { configBeside } from './model-folder.js'

const KINDS = [
  'causal-lm',
  'sequence-classification',
  'token-classification',
  'image-classification',
  'regression'
] as const

export interface TaskHints {
  /** As the operator says. */
  readonly kind?: string | undefined
  /** In the order of the logits. */
  readonly labels?: readonly string[] | undefined
}

/**
 * What a classifier alone, without a federation, is for: what the operator says, or what its inputs, its logits and the
 * `problem_type` and `architectures` of its config.json tell. Labels are numbered where nothing names them.
 */
export async function taskOfModel(modelPath: string, { kind: given, labels }: TaskHints): Promise<TaskSpec> {
  const { inputs, outputs } = await readModel(modelPath)
  const logits = outputs.find(({ name }) => name === 'logits') ?? outputs[0]
  const kind = KINDS.find((one) => one === given)
  if (given !== undefined && kind === undefined)
    throw new PeertuneError('config/wrong-value', `--task: expected one of ${KINDS.join(', ')}, got ${given}`)
  const found = kind ?? guess(inputs, logits?.shape ?? [], await configBeside(modelPath, 'config.json'))
  if (found === 'regression' || found === 'causal-lm') return { kind: found }
  const width = logits?.shape.at(-1)
  const numbered = Array.from({ length: typeof width === 'number' ? width : 0 }, (_, label) => String(label))
  return { kind: found, labels: labels ?? numbered }
}

function guess(
  inputs: readonly { readonly shape: readonly unknown[] }[],
  logits: readonly unknown[],
  { architectures, problem_type: problem }: Readonly<Record<string, unknown>>
): (typeof KINDS)[number] {
  if (inputs[0]?.shape.length === 4) return 'image-classification'
  if (problem === 'regression' || (logits.length === 2 && logits[1] === 1)) return 'regression'
  const isNamed = (what: RegExp): boolean =>
    Array.isArray(architectures) && architectures.some((name) => what.test(String(name)))
  if (isNamed(/CausalLM|LMHead/)) return 'causal-lm'
  return isNamed(/TokenClassification/) || logits.length === 3 ? 'token-classification' : 'sequence-classification'
}
