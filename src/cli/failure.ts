import { CONFIG_ERROR_PREFIX, describeError, isPeertuneError } from '../base/errors.js'
import { printable } from '../base/text.js'

export const EXIT_OK = 0
export const EXIT_FAILURE = 1
/** The operator's mistake: a wrong flag, configuration, federation file or model. */
export const EXIT_USAGE = 2

/** What the operator puts right: the configuration, or the model it names. */
const OPERATORS = [CONFIG_ERROR_PREFIX, 'onnx/', 'autodiff/']

/** The machine's failures, though the runtime reports them. */
const MACHINES: ReadonlySet<string> = new Set(['onnx/session-failed', 'onnx/run-failed'])

export const exitCodeOf = (error: unknown): number =>
  isPeertuneError(error) && OPERATORS.some((prefix) => error.code.startsWith(prefix)) && !MACHINES.has(error.code)
    ? EXIT_USAGE
    : EXIT_FAILURE

/** One sentence on one line; with `debug` the stack, and those of its causes, below it. */
export function failureText(error: unknown, { debug = false }: { readonly debug?: boolean } = {}): string {
  const sentence = `error: ${printable(describeError(error))}`
  return debug ? [sentence, ...stacks(error)].join('\n') : sentence
}

/** Causes of causes shown; a chain longer than this is a loop. */
const MAX_CAUSES = 8

function stacks(error: unknown): string[] {
  const found: string[] = []
  for (let at = error; at instanceof Error && found.length < MAX_CAUSES; at = at.cause)
    found.push(`${found.length === 0 ? '' : 'caused by '}${at.stack ?? at.message}`)
  return found
}
