import type { Node, ObjectExpression } from 'oxc-parser'
import { CODE, callsByName, codesOf, contextAt, expanded, type Search } from './codes.js'
import { type Found, meaningOf, nodesOf, type SourceFile } from './sources.js'
import { type Context, propertyOf, type Read, textOf, standsFor } from './text.js'

/** One sentence of an error code, as the code has it. */
export interface Thrown {
  readonly code: string
  readonly sentence: string
  readonly hint: string | undefined
  readonly file: string
}

/** Something a peer sent is refused with this code, or an attempt with a peer ends with it. */
export interface Judged {
  readonly code: string
  readonly verdict: 'ignore' | 'reject' | 'failed'
  readonly file: string
}

export interface Collected {
  readonly thrown: readonly Thrown[]
  readonly judged: readonly Judged[]
}

/** All codes that the sources throw or judge by, found by following codes and sentences back through helper functions. */
export function collectCodes(files: readonly SourceFile[]): Collected {
  const found = files.flatMap((file) => [...nodesOf(file)])
  const sources = new Map(files.map((file) => [file.path, file]))
  const search: Search = { sources, calls: callsByName(found) }
  return {
    thrown: found.flatMap((one) => [...thrownAt(one, search)]),
    judged: found.flatMap((one) => [...judgedAt(one, search)])
  }
}

function* thrownAt(found: Found, search: Search): Generator<Thrown> {
  const parts = partsOf(found.node)
  if (parts === undefined) return
  const start = contextAt(found, search)
  const hint = ({ options }: Parts, context: Context): Node | undefined => hintOf(options, context)?.expression
  for (const { code, context } of codesOf(parts.code, start, search))
    for (const told of expanded(parts.message, context, search))
      for (const hinted of expanded(hint(parts, told), told, search)) {
        const read = hintOf(parts.options, hinted)
        const text = read === undefined ? '' : textOf(read.expression, read.context)
        const sentence = textOf(parts.message, hinted)
        yield { code, sentence, hint: text === '' ? undefined : text, file: found.scope.file.path }
      }
}

interface Parts {
  readonly code: Node
  readonly message: Node
  readonly options: Node | undefined
}

/** `new PeertuneError(code, message, options)`, or what another thread or process makes one of: `{ code, message, hint }`. */
function partsOf(node: Node): Parts | undefined {
  if (node.type === 'NewExpression' && node.callee.type === 'Identifier' && node.callee.name === 'PeertuneError') {
    const [code, message, options] = node.arguments
    return code === undefined || message === undefined ? undefined : { code, message, options }
  }
  if (node.type !== 'ObjectExpression') return undefined
  const [code, message] = [propertyOf(node, 'code'), propertyOf(node, 'message')]
  const isCode = code?.type === 'Literal' && CODE.test(String(code.value))
  return isCode && message !== undefined ? { code, message, options: node } : undefined
}

function hintOf(options: Node | undefined, context: Context): Read | undefined {
  if (options?.type === 'Identifier') {
    const value = standsFor(options.name, context)
    return value && hintOf(value.expression, value.context)
  }
  if (options?.type !== 'ObjectExpression') return undefined
  const hint = propertyOf(options, 'hint')
  if (hint === undefined) return undefined
  // A hint that no caller gives is none.
  if (hint.type === 'Identifier' && standsFor(hint.name, context) === undefined) return undefined
  return { expression: hint, context }
}

function* judgedAt(found: Found, search: Search): Generator<Judged> {
  const { path } = found.scope.file
  for (const { verdict, expression } of judgementsAt(found))
    for (const { code } of codesOf(expression, contextAt(found, search), search)) yield { code, verdict, file: path }
}

interface Judgement {
  readonly verdict: Judged['verdict']
  readonly expression: Node
}

/**
 * `reject(code)` and `ignore(code)`; a code handed to a callback, which rejects; the code of an attempt that has failed,
 * and a counter of such.
 */
function judgementsAt({ node, scope }: Found): readonly Judgement[] {
  if (node.type === 'ObjectExpression') return failuresIn(node)
  if (node.type !== 'CallExpression' || node.callee.type !== 'Identifier') return []
  const { name } = node.callee
  const isVerdict = scope.file.imports.get(name)?.path.endsWith('base/verdict.ts')
  const [first] = node.arguments
  if (isVerdict && (name === 'reject' || name === 'ignore')) return first ? [{ verdict: name, expression: first }] : []
  if (meaningOf(name, scope)?.kind !== 'parameter') return []
  return node.arguments.filter(isCodeLiteral).map((expression) => ({ verdict: 'reject', expression }))
}

const isCodeLiteral = (node: Node): boolean => node.type === 'Literal' && CODE.test(String(node.value))

function failuresIn(node: ObjectExpression): readonly Judgement[] {
  const [kind, code] = [propertyOf(node, 'kind'), propertyOf(node, 'code')]
  const isFailure = kind?.type === 'Literal' && kind.value === 'failed'
  const codes = isFailure && code !== undefined ? [code] : []
  const counted = node.properties.flatMap((one) => (one.type === 'Property' && isCodeLiteral(one.key) ? [one.key] : []))
  return [...codes, ...counted].map((expression) => ({ verdict: 'failed', expression }))
}
