import type { Node } from 'oxc-parser'
import { returnedTexts } from './returns.js'
import { type Found, meaningOf, type NamedFunction, type SourceFile } from './sources.js'
import { type Context, gap, textOf, standsFor } from './text.js'

/** What a code looks like. */
export const CODE = /^[a-z0-9]+(-[a-z0-9]+)*\/[a-z0-9-]+$/

/** Callers of callers of callers: no helper is deeper. */
const MAX_CALLS = 4

export interface Search {
  readonly sources: ReadonlyMap<string, SourceFile>
  readonly calls: ReadonlyMap<string, readonly Found[]>
}

export function callsByName(found: readonly Found[]): ReadonlyMap<string, readonly Found[]> {
  const calls = new Map<string, Found[]>()
  for (const one of found) {
    if (one.node.type !== 'CallExpression' || one.node.callee.type !== 'Identifier') continue
    const { name } = one.node.callee
    calls.set(name, [...(calls.get(name) ?? []), one])
  }
  return calls
}

export const contextAt = ({ scope }: Found, { sources }: Search): Context => ({
  ...scope,
  sources,
  calls: new Map(),
  choices: new Map()
})

interface Coded {
  readonly code: string
  readonly context: Context
}

/** The codes that an expression may be; none where it passes on the code of another error. */
export function* codesOf(expression: Node, context: Context, search: Search): Generator<Coded> {
  if (expression.type === 'ConditionalExpression') return yield* eitherCode(expression, context, search)
  if (expression.type === 'Identifier') {
    const value = standsFor(expression.name, context)
    if (value !== undefined)
      return yield* codesOf(value.expression, { ...value.context, choices: context.choices }, search)
  }
  if (expression.type === 'MemberExpression' && expression.computed) {
    for (const value of valuesOf(expression.object, context)) yield* codesOf(value, context, search)
    return
  }
  const names = namesIn(expression)
  for (const known of withCallers(names, context, search)) {
    if (expression.type === 'Identifier' && known !== context) yield* backIn(known, codesOf(expression, known, search))
    else {
      for (const code of textsOf(expression, known)) if (CODE.test(code)) yield { code, context: known }
    }
  }
}

/** Both ways of a condition; a sentence that hangs on the same one goes with its code. */
function* eitherCode(
  { test, consequent, alternate }: Node & { readonly type: 'ConditionalExpression' },
  context: Context,
  search: Search
): Generator<Coded> {
  const condition = context.file.text.slice(test.start, test.end)
  const chosen = (choice: boolean): Context => ({
    ...context,
    choices: new Map(context.choices).set(condition, choice)
  })
  yield* codesOf(consequent, chosen(true), search)
  yield* codesOf(alternate, chosen(false), search)
}

/** The text of a template, once for each text that a function called for one of its parts may give back. */
function textsOf(expression: Node, context: Context): readonly string[] {
  const text = textOf(expression, context)
  for (const name of expression.type === 'TemplateLiteral' ? namesIn(expression) : []) {
    const read = standsFor(name, context)
    if (read?.expression.type !== 'CallExpression') continue
    return returnedTexts(read.expression, read.context).map((one) => text.replaceAll(gap(name), one))
  }
  return [text]
}

/** What a table of the file has, by whatever key. */
function valuesOf(table: Node, context: Context): readonly Node[] {
  const read = table.type === 'Identifier' ? standsFor(table.name, context)?.expression : undefined
  const object = read?.type === 'TSAsExpression' ? read.expression : read
  if (object?.type !== 'ObjectExpression') return []
  return object.properties.flatMap((one) => (one.type === 'Property' ? [one.value] : []))
}

/** The codes were read where the callers are; the sentence is read where the error is made. */
function* backIn(context: Context, codes: Generator<Coded>): Generator<Coded> {
  for (const { code } of codes) yield { code, context }
}

const namesIn = (expression: Node): readonly string[] => {
  if (expression.type === 'Identifier') return [expression.name]
  return expression.type === 'TemplateLiteral' ? expression.expressions.flatMap(namesIn) : []
}

/** The contexts in which a sentence that is passed in whole is known; the one given where it is made on the spot. */
export function expanded(expression: Node | undefined, context: Context, search: Search): readonly Context[] {
  if (expression?.type !== 'Identifier') return [context]
  return [...withCallers([expression.name], context, search)]
}

/** One context for each call of the function whose parameters these names are; the given one where there is none. */
function* withCallers(names: readonly string[], context: Context, search: Search): Generator<Context> {
  const open = names
    .map((name) => meaningOf(name, context))
    .find((meaning) => meaning?.kind === 'parameter' && !context.calls.has(meaning.of.node))
  if (open?.kind !== 'parameter' || context.calls.size >= MAX_CALLS) return yield context
  const callers = callersOf(open.of, context, search)
  if (callers.length === 0) return yield context
  for (const caller of callers) {
    if (caller.node.type !== 'CallExpression') continue
    const call = { arguments: caller.node.arguments, context: contextAt(caller, search) }
    yield { ...context, calls: new Map(context.calls).set(open.of.node, call) }
  }
}

function callersOf({ name }: NamedFunction, { file }: Context, { calls }: Search): readonly Found[] {
  if (name === undefined) return []
  return (calls.get(name) ?? []).filter(({ scope }) => {
    const imported = scope.file.imports.get(name)
    return scope.file === file || imported?.path === file.path
  })
}
