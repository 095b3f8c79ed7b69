import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import {
  type ArrowFunctionExpression,
  type BindingPattern,
  type Expression,
  type Function as FunctionNode,
  type Node,
  type ParamPattern,
  parseSync,
  visitorKeys
} from 'oxc-parser'

export type AnyFunction = FunctionNode | ArrowFunctionExpression

/** A function and the name it is called by, where it has one. */
export interface NamedFunction {
  readonly node: AnyFunction
  readonly name: string | undefined
}

/** Where an expression stands. */
export interface Scope {
  readonly file: SourceFile
  /** The functions around it, the outermost first. */
  readonly functions: readonly NamedFunction[]
}

export interface Found {
  readonly node: Node
  readonly scope: Scope
}

export interface SourceFile {
  /** From the folder that was read, with slashes. */
  readonly path: string
  readonly text: string
  readonly program: Node
  /** By local name, what it is called where and in which file of ours. */
  readonly imports: ReadonlyMap<string, { readonly path: string; readonly name: string }>
}

/** Every TypeScript file below `root`, generated ones left out. */
export function readSources(root: string): readonly SourceFile[] {
  const paths = readdirSync(root, { recursive: true, encoding: 'utf8' })
  return paths
    .map((path) => path.replaceAll('\\', '/'))
    .filter((path) => path.endsWith('.ts') && !path.endsWith('.d.ts') && !path.endsWith('_pb.ts'))
    .sort()
    .map((path) => readSource(root, path))
}

function readSource(root: string, path: string): SourceFile {
  const text = readFileSync(join(root, path), 'utf8')
  const { program, module } = parseSync(path, text)
  const imports = new Map<string, { readonly path: string; readonly name: string }>()
  for (const { moduleRequest, entries } of module.staticImports)
    for (const { importName, localName } of entries)
      imports.set(localName.value, { path: target(path, moduleRequest.value), name: importName.name ?? '' })
  return { path, text, program, imports }
}

const target = (from: string, specifier: string): string =>
  specifier.startsWith('.')
    ? relative('.', join(dirname(from), specifier))
        .replaceAll('\\', '/')
        .replace(/\.js$/, '.ts')
    : specifier

const isNode = (value: unknown): value is Node => typeof value === 'object' && value !== null && 'type' in value

export const childrenOf = (node: Node): readonly Node[] =>
  (visitorKeys[node.type] ?? []).flatMap((key) => {
    const value = (node as unknown as Record<string, unknown>)[key]
    return (Array.isArray(value) ? value : [value]).filter(isNode)
  })

export const isFunction = (node: Node): node is AnyFunction =>
  node.type === 'ArrowFunctionExpression' || node.type === 'FunctionDeclaration' || node.type === 'FunctionExpression'

/** Every node of a file with the functions around it. */
export function* nodesOf(file: SourceFile): Generator<Found> {
  yield* walk(file.program, { file, functions: [] }, undefined)
}

function* walk(node: Node, scope: Scope, name: string | undefined): Generator<Found> {
  yield { node, scope }
  const inner = isFunction(node)
    ? { ...scope, functions: [...scope.functions, { node, name: nameOf(node, name) }] }
    : scope
  for (const child of childrenOf(node)) yield* walk(child, inner, nameFor(node, child))
}

const nameOf = (node: AnyFunction, given: string | undefined): string | undefined => node.id?.name ?? given

/** What a child is called by its parent: `const NAME = (...) => ...`. */
const nameFor = (parent: Node, child: Node): string | undefined =>
  parent.type === 'VariableDeclarator' && parent.id.type === 'Identifier' && parent.init === child
    ? parent.id.name
    : undefined

/** What a name stands for. `keys` lead from the argument or value to what is meant, where it is taken apart. */
export type Meaning =
  | { readonly kind: 'parameter'; readonly of: NamedFunction; readonly index: number; readonly keys: readonly string[] }
  | { readonly kind: 'value'; readonly value: Expression; readonly keys: readonly string[]; readonly scope: Scope }

export function meaningOf(name: string, { file, functions }: Scope): Meaning | undefined {
  for (let depth = functions.length; depth > 0; depth--) {
    const of = functions[depth - 1]!
    const scope = { file, functions: functions.slice(0, depth) }
    const parameter = parameterOf(name, of)
    if (parameter !== undefined) return parameter
    const value = declared(name, of.node.body, scope)
    if (value !== undefined) return value
  }
  return declared(name, file.program, { file, functions: [] })
}

function parameterOf(name: string, of: NamedFunction): Meaning | undefined {
  for (const [index, parameter] of of.node.params.entries()) {
    const keys = keysTo(name, patternOf(parameter))
    if (keys !== undefined) return { kind: 'parameter', of, index, keys }
  }
  return undefined
}

const patternOf = (parameter: ParamPattern): BindingPattern | undefined =>
  parameter.type === 'RestElement' || parameter.type === 'TSParameterProperty' ? undefined : parameter

/** The way to a name inside a pattern; empty where it is the whole. */
function keysTo(name: string, pattern: BindingPattern | undefined): readonly string[] | undefined {
  if (pattern?.type === 'Identifier') return pattern.name === name ? [] : undefined
  if (pattern?.type === 'AssignmentPattern') return keysTo(name, pattern.left)
  if (pattern?.type !== 'ObjectPattern') return undefined
  for (const property of pattern.properties) {
    if (property.type !== 'Property' || property.key.type !== 'Identifier') continue
    const rest = keysTo(name, property.value)
    if (rest !== undefined) return [property.key.name, ...rest]
  }
  return undefined
}

/** A constant declared in this function or file, not in a function inside it. */
function declared(name: string, within: Node | null, scope: Scope): Meaning | undefined {
  if (within === null) return undefined
  if (within.type === 'VariableDeclarator' && within.init !== null) {
    const keys = keysTo(name, within.id)
    if (keys !== undefined) return { kind: 'value', value: within.init, keys, scope }
  }
  for (const child of childrenOf(within)) {
    const found = isFunction(child) ? undefined : declared(name, child, scope)
    if (found !== undefined) return found
  }
  return undefined
}
