import { type InspectReport, inspectModel, type MethodCount } from '../../node/model/inspect.js'
import { PeertuneError } from '../../base/errors.js'
import type { Output } from '../output.js'

export interface InspectCommandOptions {
  readonly batch: string
  readonly seq: string
  readonly json?: boolean
}

/** Says what a model is, what can be trained in it and what a step takes. */
export async function inspect(modelPath: string, options: InspectCommandOptions, out: Output): Promise<void> {
  const report = await inspectModel(modelPath, {
    batch: positive('--batch', options.batch),
    seq: positive('--seq', options.seq)
  })
  if (options.json) out.json(report)
  else for (const line of inspectText(report)) out.line(line)
}

function positive(flag: string, text: string): number {
  const value = Number(text)
  if (Number.isInteger(value) && value > 0) return value
  throw new PeertuneError('config/wrong-number', `${flag}: expected a positive whole number, got ${text}`)
}

const thousands = (count: number): string => count.toLocaleString('en-US')
const megabytes = (count: number): string => `${thousands(Math.round(count))} MB`
/** Names that exporters make up for axes that nobody named say nothing. */
const shapeText = ({ name, type, shape }: InspectReport['inputs'][number], known: ReadonlySet<string>): string =>
  `${name} ${type}[${shape.map((dim) => (typeof dim === 'number' || known.has(dim) ? dim : '?')).join(', ')}]`

/** Names of axes that stand in an input. */
const axesOf = (inputs: InspectReport['inputs']): ReadonlySet<string> =>
  new Set(inputs.flatMap(({ shape }) => shape.filter((dim) => typeof dim === 'string')))

/** A report as lines for a terminal. */
export function inspectText(report: InspectReport): string[] {
  const { weights, trainable, memory } = report
  const axes = axesOf(report.inputs)
  return [
    `model       ${report.path}`,
    `sha256      ${report.sha256}`,
    `family      ${report.family ?? 'unknown'}`,
    `exporter    ${report.exporter}, opset ${report.opset}`,
    `task        ${report.task}`,
    ...report.inputs.map((input) => `input       ${shapeText(input, axes)}`),
    ...report.outputs.map((output) => `output      ${shapeText(output, axes)}`),
    `weights     ${thousands(weights.parameters)} in ${weights.tensors} tensors`,
    `trainable   ${trainable.tensors} of ${trainable.of} tensors`,
    ...trainable.blocked.map(
      ({ node, op, module, reason }) => `in the way  ${op} ${node}${module === '' ? '' : ` in ${module}`}: ${reason}`
    ),
    '',
    'linear layers (what --targets may name)',
    ...report.modules.map(
      ({ pattern, count, inFeatures, outFeatures }) =>
        `  ${pattern}  ${inFeatures} to ${outFeatures}${count === 1 ? '' : `, ${count} of them`}`
    ),
    '',
    'trainable parameters by method',
    ...report.methods.map(methodLine),
    '',
    'error' in memory
      ? `a training step: ${memory.error}`
      : `a training step of ${axes.size > 1 ? `${memory.batch} x ${memory.seq}` : memory.batch} takes about ${megabytes(memory.totalMb)} (${memory.method}): ` +
        `weights ${megabytes(memory.weightsMb)}, activations ${megabytes(memory.activationsMb)}`
  ]
}

const methodLine = ({ method, parameters, options, error }: MethodCount): string =>
  `  ${method.padEnd(10)}  ${parameters === undefined ? `not with this model: ${error}` : `${thousands(parameters)} (${options})`}`
