import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseSync } from 'oxc-parser'
import { describe, expect, it } from 'vitest'

/**
 * How large things may become: files of a folder, lines of a function, its parameters. Every function counts, whether
 * declared, a method, an expression or an arrow; what is generated does not.
 */
const ROOT = fileURLToPath(new URL('..', import.meta.url))
const ROOTS = ['src', 'bench', 'scripts']

/** `src/node` is where a reader comes first. */
const MOST_FILES_IN_NODE = 8
const MOST_FILES_IN_A_FOLDER = 20
const LONGEST_LINES = 80
const MEDIAN_LINES = 8
const P90_LINES = 22
const MOST_PARAMETERS = 3
/** Of all functions, those that may have more: some mathematics has four names of its own. */
const SHARE_OF_MORE_PARAMETERS = 0.02

interface Fn {
  readonly where: string
  readonly lines: number
  readonly parameters: number
}

interface AstNode {
  readonly type?: unknown
  readonly start?: number
  readonly end?: number
  readonly [key: string]: unknown
}

const isGenerated = (path: string): boolean => path.endsWith('_pb.ts')

const filesUnder = (folder: string): string[] =>
  readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name)
    return entry.isDirectory() ? filesUnder(path) : isGenerated(path) ? [] : [path]
  })

const FUNCTIONS = ['FunctionDeclaration', 'FunctionExpression', 'ArrowFunctionExpression']
/** Declarations of overloads have no body and are no functions. */
const isFunction = (node: AstNode): boolean => FUNCTIONS.includes(String(node.type)) && node.body !== null

function* nodesOf(value: unknown): Generator<AstNode> {
  if (typeof value !== 'object' || value === null) return
  if (!Array.isArray(value)) yield value as AstNode
  for (const child of Object.values(value)) yield* nodesOf(child)
}

/** The line of an offset, from 1. */
function lineFinder(source: string): (offset: number) => number {
  const starts = [0, ...Array.from(source.matchAll(/\n/g), ({ index }) => index + 1)]
  return (offset) => {
    const next = starts.findIndex((start) => start > offset)
    return next === -1 ? starts.length : next
  }
}

/** Every function of a source, nested ones too. */
function functionsOf(path: string, source: string): Fn[] {
  const lineAt = lineFinder(source)
  return [...nodesOf(parseSync(path, source).program)].filter(isFunction).map(({ start = 0, end = 0, params }) => {
    const line = lineAt(start)
    return { where: `${path}:${line}`, lines: lineAt(end) - line + 1, parameters: (params as unknown[]).length }
  })
}

const quantile = (share: number, lengths: readonly number[]): number =>
  lengths.toSorted((a, b) => a - b)[Math.floor(share * lengths.length)] ?? 0

/** What is beyond a limit, the worst first; nothing where the limit holds. */
const offenders = (functions: readonly Fn[], measure: (fn: Fn) => number, limit: number): string[] =>
  functions
    .filter((fn) => measure(fn) > limit)
    .toSorted((a, b) => measure(b) - measure(a))
    .map((fn) => `${fn.where}: ${measure(fn)}`)

/** Empty where so large a share of the functions has at most `limit` lines. */
function tooLong(functions: readonly Fn[], share: number, limit: number): string[] {
  const lengths = functions.map(({ lines }) => lines)
  const found = quantile(share, lengths)
  if (found <= limit) return []
  return [
    `${100 * share} % have up to ${found} lines, at most ${limit}`,
    ...offenders(functions, linesOf, limit).slice(0, NAMED)
  ]
}

/** Of many that are a line too long, the longest. */
const NAMED = 30
const linesOf = ({ lines }: Fn): number => lines
const parametersOf = ({ parameters }: Fn): number => parameters

function tooManyParameters(functions: readonly Fn[]): string[] {
  const more = offenders(functions, parametersOf, MOST_PARAMETERS)
  const allowed = Math.floor(SHARE_OF_MORE_PARAMETERS * functions.length)
  if (more.length <= allowed) return []
  return [`${more.length} of ${functions.length} functions, at most ${allowed}`, ...more]
}

const crowded = (files: readonly string[], mostIn: (folder: string) => number): string[] => {
  const counts = new Map<string, number>()
  for (const folder of files.map(dirname)) counts.set(folder, (counts.get(folder) ?? 0) + 1)
  return [...counts].filter(([folder, count]) => count > mostIn(folder)).map(([folder, count]) => `${folder}: ${count}`)
}

const files = ROOTS.flatMap((root) => filesUnder(join(ROOT, root))).map((path) => relative(ROOT, path))
const functionsIn = (under: string): Fn[] =>
  files
    .filter((path) => path.startsWith(under) && path.endsWith('.ts'))
    .flatMap((path) => functionsOf(path, readFileSync(join(ROOT, path), 'utf8')))
const ofSrc = functionsIn('src/')
const ofAll = [...ofSrc, ...functionsIn('bench/'), ...functionsIn('scripts/')]

describe('structure', () => {
  it('finds the functions it is meant to measure', () => {
    expect(ofSrc.length).toBeGreaterThan(1000)
    expect(ofAll.length).toBeGreaterThan(ofSrc.length)
  })

  it('keeps few files in a folder', () => {
    const most = (folder: string) => (folder === join('src', 'node') ? MOST_FILES_IN_NODE : MOST_FILES_IN_A_FOLDER)
    expect(crowded(files, most)).toEqual([])
  })

  it('keeps functions short', () => {
    expect(offenders(ofAll, linesOf, LONGEST_LINES)).toEqual([])
    for (const functions of [ofSrc, ofAll]) {
      expect(tooLong(functions, 0.5, MEDIAN_LINES)).toEqual([])
      expect(tooLong(functions, 0.9, P90_LINES)).toEqual([])
    }
  })

  it('gives few functions more than three parameters', () => {
    expect(tooManyParameters(ofSrc)).toEqual([])
    expect(tooManyParameters(ofAll)).toEqual([])
  })
})

describe('what is measured', () => {
  it('is every function with a body, by its own lines and parameters', () => {
    const source = [
      'export function declared(a: number, { b, c }: Pair, ...rest: number[]): number {',
      '  const arrow = (x: number) => x',
      '  return arrow(a + b + c + rest.length)',
      '}',
      'function overloaded(a: string): void',
      'function overloaded(a: unknown): void {}',
      'type Handler = (a: number, b: number, c: number, d: number) => void',
      'const object = {',
      '  method(a: number,',
      '    b: number) {',
      '    return function* () {}',
      '  }',
      '}'
    ].join('\n')
    expect(functionsOf('a.ts', source)).toEqual([
      { where: 'a.ts:1', lines: 4, parameters: 3 },
      { where: 'a.ts:2', lines: 1, parameters: 1 },
      { where: 'a.ts:6', lines: 1, parameters: 1 },
      { where: 'a.ts:9', lines: 4, parameters: 2 },
      { where: 'a.ts:11', lines: 1, parameters: 0 }
    ])
  })

  it('says who is beyond a limit, and nothing while it holds', () => {
    const fns = (...sizes: readonly (readonly [lines: number, parameters: number])[]): Fn[] =>
      sizes.map(([lines, parameters], i) => ({ where: `f${i}`, lines, parameters }))
    const nine = fns([1, 0], [2, 0], [3, 1], [9, 2], [9, 3], [9, 3], [9, 3], [20, 4], [81, 5])
    expect(offenders(nine, linesOf, 80)).toEqual(['f8: 81'])
    expect(tooLong(nine, 0.5, 9)).toEqual([])
    expect(tooLong(nine, 0.5, 8)[0]).toBe('50 % have up to 9 lines, at most 8')
    expect(tooLong(nine, 0.9, 80)).toEqual(['90 % have up to 81 lines, at most 80', 'f8: 81'])
    expect(tooManyParameters(nine)).toEqual(['2 of 9 functions, at most 0', 'f8: 5', 'f7: 4'])
    expect(tooManyParameters(fns(...Array.from({ length: 50 }, (_, i) => [1, i === 0 ? 4 : 3] as const)))).toEqual([])
    expect(crowded(['a/x.ts', 'a/y.ts', 'a/b/z.ts'], () => 1)).toEqual(['a: 2'])
  })
})

describe('tests', () => {
  it('that replace a module say so in their names, since other files of their room share a process', () => {
    const replacing = filesUnder(join(ROOT, 'test'))
      .filter((file) => file.endsWith('.test.ts') && /\bvi\.(mock|doMock)\(/.test(readFileSync(file, 'utf8')))
      .map((file) => relative(ROOT, file))
    expect(replacing.length).toBeGreaterThan(0)
    expect(replacing.filter((file) => !file.endsWith('.isolated.test.ts'))).toEqual([])
  })
})
