/** What Node.js says with `process.emitWarning`. */
export interface Warning {
  /** Such as `DeprecationWarning`. */
  readonly name: string
  /** Name, code and message, then where it came from. */
  readonly text: string
}

/**
 * Has this process, its children and their threads write their warnings to `file`, with stacks. Deprecations that are
 * only announced count, too: they are the next version's failures.
 */
export const warningOptions = (file: string): string =>
  `--trace-warnings --pending-deprecation --redirect-warnings=${JSON.stringify(file)}`

const FIRST_LINE = /^\(node:\d+\) ((?:\[\w+\] )?(\w*Warning): .*)$/

/** The warnings of a file that all wrote to, each once. */
export function readWarnings(text: string): readonly Warning[] {
  const found: { name: string; lines: string[] }[] = []
  for (const line of text.split('\n')) {
    const [, message, name] = FIRST_LINE.exec(line) ?? []
    if (message !== undefined && name !== undefined) found.push({ name, lines: [message] })
    else if (line !== '') found.at(-1)?.lines.push(line)
  }
  const once = new Map(found.map(({ name, lines }) => [lines[0], { name, text: lines.join('\n') }]))
  return [...once.values()]
}

export const isDeprecation = ({ name }: Warning): boolean => name === 'DeprecationWarning'
