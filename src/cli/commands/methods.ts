import { type MethodRow, methodTable } from '../../node/model/method-table.js'
import type { Output } from '../output.js'

export interface MethodsOptions {
  readonly model?: string
  readonly json?: boolean
}

/** Lists what can be trained: family, how it mixes and, for a model, how many parameters. */
export async function methods({ model, json }: MethodsOptions, out: Output): Promise<void> {
  const rows = await methodTable(model)
  if (json) return out.json(rows)
  out.line(columns('method', 'family', 'mixing', 'PEFT', model === undefined ? '' : 'parameters'))
  for (const row of rows) {
    const name = row.variant === undefined ? row.method : `${row.method}, ${row.variant}`
    out.line(columns(name, row.family, row.mixing, row.peftType ?? '-', countText(row)))
  }
}

const countText = ({ parameters, targets, unfit }: MethodRow): string => {
  if (unfit !== undefined) return unfit
  if (parameters === undefined) return ''
  return targets === undefined ? `${parameters}` : `${parameters} (${shortList(targets)})`
}

/** Targets named before the rest is counted. */
const NAMED_TARGETS = 4

const shortList = (names: readonly string[]): string =>
  names.length <= NAMED_TARGETS
    ? names.join(', ')
    : `${names.slice(0, NAMED_TARGETS).join(', ')} and ${names.length - NAMED_TARGETS} more`

const columns = (method: string, family: string, mixing: string, peft: string, count: string): string =>
  `${method.padEnd(26)}${family.padEnd(17)}${mixing.padEnd(26)}${peft.padEnd(15)}${count}`.trimEnd()
