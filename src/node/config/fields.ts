import { z } from 'zod'
import { PeertuneError } from '../../base/errors.js'
import type { FieldPath } from '../host/yaml-file.js'

/**
 * The fields configuration files are made of. The message of every check is what was EXPECTED ('a whole number from 1
 * to 1024'), so that one function can write the sentence for all of them.
 */
/** A mapping in which a key nobody knows is an error. */
export const section = <Shape extends z.ZodRawShape>(shape: Shape) =>
  z.strictObject(shape, {
    error: (issue) =>
      issue.code === 'unrecognized_keys'
        ? Object.keys(shape).join(', ')
        : `a section with ${Object.keys(shape).join(', ')}`
  })

/** A mapping of one of several kinds, told apart by its field `kind` (or another). */
export const variants = <
  const Options extends readonly [z.core.$ZodTypeDiscriminable, ...z.core.$ZodTypeDiscriminable[]]
>(
  field: string,
  options: Options
) =>
  z.discriminatedUnion(field, options, {
    error: (issue) =>
      issue.code === 'invalid_union' && Array.isArray(issue.options)
        ? `one of ${issue.options.join(', ')}`
        : `a section with a field ${field}`
  })

export function wholeNumber(min: number, max: number = Number.MAX_SAFE_INTEGER) {
  const error =
    max === Number.MAX_SAFE_INTEGER ? `a whole number of at least ${min}` : `a whole number from ${min} to ${max}`
  return z.int({ error }).min(min, { error }).max(max, { error })
}

/** A finite number; `above` leaves its end out, `min` and `max` keep theirs. */
export function number({ above, min, max, below }: { above?: number; min?: number; max?: number; below?: number }) {
  const ends = [
    above === undefined ? undefined : `above ${above}`,
    min === undefined ? undefined : `of at least ${min}`,
    max === undefined ? undefined : `at most ${max}`,
    below === undefined ? undefined : `below ${below}`
  ]
  const error = `a number ${ends.filter((end) => end !== undefined).join(' and ')}`
  return z
    .number({ error })
    .refine(
      (value) =>
        (above === undefined || value > above) &&
        (min === undefined || value >= min) &&
        (max === undefined || value <= max) &&
        (below === undefined || value < below),
      { error }
    )
}

/** One line of text; `max` in UTF-16 units. */
export function text(error = 'a line of text', { min = 1, max = 4096 }: { min?: number; max?: number } = {}) {
  return (
    z
      .string({ error })
      .min(min, { error })
      .max(max, { error: `${error} of at most ${max} characters` })
      // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is refused
      .regex(/^[^\u0000-\u001f\u007f]*$/, { error: `${error} without line breaks or control characters` })
  )
}

export const path = (what: string) => text(`the path of ${what}`)

export const matching = (pattern: RegExp, error: string) => z.string({ error }).regex(pattern, { error })

export const oneOf = <const Names extends readonly [string, ...string[]]>(names: Names) =>
  z.enum(names, { error: `one of ${names.join(', ')}` })

export const flag = () => z.boolean({ error: 'true or false' })

/** Always the same value; `error` says which. */
export const exactly = <const Value extends string | number>(value: Value) => z.literal(value, { error: String(value) })

export function list<Item extends z.ZodType>(
  item: Item,
  { of, min = 0, max, distinct = false }: { of: string; min?: number; max: number; distinct?: boolean }
) {
  const error = min > 0 ? `a list of ${min} to ${max} ${of}` : `a list of at most ${max} ${of}`
  const bounded = z.array(item, { error }).min(min, { error }).max(max, { error })
  return distinct
    ? bounded.refine((items) => new Set(items).size === items.length, { error: `${error}, each named once` })
    : bounded
}

/** A mapping with keys of the operator's choice. */
export function mapping<Value extends z.ZodType>(value: Value, { of, max }: { of: string; max: number }) {
  const error = `a mapping of at most ${max} ${of}`
  return z.record(z.string(), value, { error }).refine((record) => Object.keys(record).length <= max, { error })
}

/** One, or a list of several. */
export const oneOrMore = <Item extends z.ZodType>(item: Item, { of, max }: { of: string; max: number }) =>
  z.unknown().transform((value, context): z.output<Item> | z.output<Item>[] => {
    const schema = Array.isArray(value) ? list(item, { of, min: 1, max }) : item
    const result = schema.safeParse(value)
    if (result.success) return result.data as z.output<Item> | z.output<Item>[]
    for (const issue of result.error.issues) context.issues.push({ ...issue, input: value } as never)
    return z.NEVER
  })

export const nullable = <Field extends z.ZodType>(field: Field) => z.nullable(field)

/** What a value came from, to be named in a sentence: `a.yaml:12: training.steps`, or `--http-port`. */
export type Origin = (path: FieldPath) => string

/**
 * `value` as `schema` has it, defaults filled in. Throws `config/unknown-key`, `config/missing-field` and
 * `config/wrong-value` for the first thing that is wrong: where it stands, what was expected and what was got.
 */
export function checkFields<Schema extends z.ZodType>(
  schema: Schema,
  value: unknown,
  origin: Origin
): z.output<Schema> {
  const result = schema.safeParse(value)
  if (result.success) return result.data
  const { issues } = result.error
  // A misspelt key also leaves the right one missing; the misspelling is what to say.
  const issue = issues.find(({ code }) => code === 'unrecognized_keys') ?? issues[0]
  throw complaint(issue as z.core.$ZodIssue, value, origin)
}

function complaint(issue: z.core.$ZodIssue, root: unknown, origin: Origin): PeertuneError {
  const at = issue.path.map((step) => (typeof step === 'symbol' ? String(step) : step))
  if (issue.code === 'unrecognized_keys') return unknownKey(at, issue.keys[0] ?? '', issue.message.split(', '), origin)
  const got = valueAt(root, at)
  const where = origin(at)
  const facts = { field: at.join('.'), expected: issue.message }
  if (got === undefined)
    return new PeertuneError('config/missing-field', `${where} is missing, expected ${issue.message}`, { facts })
  return new PeertuneError('config/wrong-value', `${where}: expected ${issue.message}, got ${shown(got)}`, {
    facts: { ...facts, got: shown(got) }
  })
}

function unknownKey(parent: FieldPath, key: string, known: readonly string[], origin: Origin): PeertuneError {
  const near = closest(key, known)
  return new PeertuneError(
    'config/unknown-key',
    `${origin([...parent, key])}: expected one of ${known.join(', ')}, got the unknown key ${shown(key)}`,
    { facts: { key, known }, ...(near === undefined ? {} : { hint: `did you mean "${near}"?` }) }
  )
}

export function valueAt(root: unknown, path: FieldPath): unknown {
  let value = root
  for (const step of path) {
    if (value === null || typeof value !== 'object') return undefined
    value = (value as Record<string | number, unknown>)[step]
  }
  return value
}

/** Characters of a wrong value that a sentence repeats. */
const SHOWN_LENGTH = 60

function shown(value: unknown): string {
  if (value === null || value === undefined) return 'nothing'
  const written = JSON.stringify(value) ?? String(value)
  return written.length > SHOWN_LENGTH ? `${written.slice(0, SHOWN_LENGTH)}...` : written
}

/** The known name fewest edits away, if that is a slip of the fingers and not another word. */
export function closest(name: string, known: readonly string[]): string | undefined {
  const scored = known.map((candidate) => ({
    candidate,
    edits: editDistance(name.toLowerCase(), candidate.toLowerCase())
  }))
  const best = scored.sort((a, b) => a.edits - b.edits)[0]
  return best !== undefined && best.edits <= Math.ceil(0.4 * name.length) ? best.candidate : undefined
}

/** Levenshtein distance, one row at a time. */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j)
  for (let i = 1; i <= a.length; i++) {
    const next = [i]
    for (let j = 1; j <= b.length; j++)
      next.push(
        Math.min((row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1, (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1))
      )
    row = next
  }
  return row[b.length] ?? 0
}
