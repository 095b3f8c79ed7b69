import { PeertuneError } from '../src/base/errors.js'

/** The whole number after a flag of a bench. Throws `config/bad-flag`. */
export function wholeFlag(args: readonly string[], flag: string, fallback: number): number {
  const at = args.indexOf(flag)
  if (at < 0) return fallback
  const value = Number(args[at + 1])
  if (Number.isSafeInteger(value) && value >= 0) return value
  throw new PeertuneError('config/bad-flag', `${flag} needs a whole number, got ${args[at + 1]}`)
}

/** The rows of a table that `--only a,b` names; all without it. Throws `config/bad-flag`. */
export function rowsOf<Row>(table: Readonly<Record<string, Row>>, only?: string): (readonly [string, Row])[] {
  return (only?.split(',') ?? Object.keys(table)).map((name) => {
    const row = table[name]
    if (row !== undefined) return [name, row] as const
    throw new PeertuneError('config/bad-flag', `--only knows ${Object.keys(table).join(', ')}, got ${name}`)
  })
}
