import { PeertuneError } from '../../base/errors.js'

/**
 * Checks of a scenario's fields, each with its default. A value of the wrong kind throws `config/bad-scenario` with the
 * path and what was expected.
 */
export interface Field<T> {
  readonly read: (value: unknown, path: string) => T
}

export type ValueOf<F> = F extends Field<infer T> ? T : never

function wrong(path: string, expected: string, got: unknown): PeertuneError {
  const shown = JSON.stringify(got) ?? String(got)
  return new PeertuneError('config/bad-scenario', `${path || 'scenario'}: expected ${expected}, got ${shown}`, {
    facts: { path, expected, got: shown }
  })
}

const field = <T>(fallback: T, expected: string, accepts: (value: unknown) => boolean): Field<T> => ({
  read: (value, path) => {
    if (value === undefined) return fallback
    if (!accepts(value)) throw wrong(path, expected, value)
    return value as T
  }
})

const isNumber = (value: unknown, min: number, max: number): value is number =>
  typeof value === 'number' && value >= min && value <= max

export const text = (fallback: string) =>
  field(fallback, 'a text', (value) => typeof value === 'string' && value.length > 0)

export const flag = (fallback: boolean) => field(fallback, 'true or false', (value) => typeof value === 'boolean')

export const real = (fallback: number, min: number, max: number) =>
  field(fallback, `a number from ${min} to ${max}`, (value) => isNumber(value, min, max))

export const whole = (fallback: number, min: number, max: number) =>
  field(
    fallback,
    `a whole number from ${min} to ${max}`,
    (value) => isNumber(value, min, max) && Number.isInteger(value)
  )

/** Two numbers, the smaller first; things are drawn uniformly between them. */
export const span = (fallback: readonly [number, number], min: number, max: number) =>
  field<readonly [number, number]>(
    fallback,
    `two numbers from ${min} to ${max}, the smaller first`,
    (value) =>
      Array.isArray(value) &&
      value.length === 2 &&
      isNumber(value[0], min, max) &&
      isNumber(value[1], min, max) &&
      value[0] <= value[1]
  )

export const oneOf = <const Names extends readonly string[]>(fallback: Names[number], names: Names) =>
  field<Names[number]>(fallback, `one of ${names.join(', ')}`, (value) => names.includes(value as string))

const isMapping = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

/** A mapping in which a key nobody knows is an error. */
export function section<Fields extends Readonly<Record<string, Field<unknown>>>>(
  fields: Fields
): Field<{ readonly [Key in keyof Fields]: ValueOf<Fields[Key]> }> {
  const names = Object.keys(fields)
  return {
    read: (value = {}, path) => {
      if (!isMapping(value)) throw wrong(path, `a section with ${names.join(', ')}`, value)
      const unknown = Object.keys(value).find((key) => !names.includes(key))
      if (unknown !== undefined) throw wrong(at(path, unknown), `one of ${names.join(', ')}`, unknown)
      const entries = names.map((name) => [name, fields[name]!.read(value[name], at(path, name))])
      return Object.fromEntries(entries) as { readonly [Key in keyof Fields]: ValueOf<Fields[Key]> }
    }
  }
}

/** What somebody else reads and checks. */
export const anything: Field<unknown> = { read: (value) => value }

/** Absent means none. */
export const list = <T>(item: Field<T>, max: number): Field<readonly T[]> => ({
  read: (value = [], path) => {
    if (!Array.isArray(value) || value.length > max) throw wrong(path, `a list of at most ${max}`, value)
    return value.map((one, i) => item.read(one, `${path}[${i}]`))
  }
})

const at = (path: string, key: string): string => (path === '' ? key : `${path}.${key}`)
