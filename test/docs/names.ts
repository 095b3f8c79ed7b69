import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Node } from 'oxc-parser'
import { childrenOf, isFunction, nodesOf, readSources, type SourceFile } from '../../scripts/errors/sources.js'

/** The sources below a folder of the project, by their path from its root. */
export const filesBelow = (root: string, folder: string): ReadonlyMap<string, SourceFile> =>
  new Map(readSources(join(root, folder)).map((file) => [`${folder}/${file.path}`, file]))

/** Every name in the code of a file, its comments and texts left out. */
export const namesIn = (file: SourceFile): ReadonlySet<string> =>
  new Set([...nodesOf(file)].flatMap(({ node }) => (node.type === 'Identifier' ? [node.name] : [])))

/** Names that a file declares: functions, types, variables and parameters; keys of objects are somebody else's. */
export const declaredIn = (file: SourceFile): readonly string[] =>
  [...nodesOf(file)].flatMap(({ node }) => declaredBy(node))

function declaredBy(node: Node): readonly string[] {
  if (isFunction(node)) return [...boundIn(node.id), ...node.params.flatMap(boundIn)]
  if (node.type === 'VariableDeclarator') return boundIn(node.id)
  const isType = node.type === 'TSTypeAliasDeclaration' || node.type === 'TSInterfaceDeclaration'
  return isType ? [node.id.name] : []
}

/** Of `{ key: name }` the name. */
function boundIn(pattern: Node | null): readonly string[] {
  if (pattern === null) return []
  if (pattern.type === 'Identifier') return [pattern.name]
  if (pattern.type === 'Property') return boundIn(pattern.value)
  if (pattern.type === 'AssignmentPattern') return boundIn(pattern.left)
  return childrenOf(pattern).flatMap(boundIn)
}

/** `createExchangeLog` is create, exchange and log. */
export const wordsOf = (name: string): readonly string[] =>
  name
    .replaceAll(/([a-z0-9])([A-Z])/g, '$1 $2')
    .toLowerCase()
    .split(/[ _$]/)

/** The cells of every row of every table, headings left out. */
export const rowsOf = (markdown: string): readonly (readonly string[])[] =>
  markdown
    .split('\n')
    .filter((line) => line.startsWith('|') && !line.startsWith('|---'))
    .map((line) =>
      line
        .slice(1, -1)
        .split('|')
        .map((cell) => cell.trim())
    )

export const readText = (root: string, path: string): string => readFileSync(join(root, path), 'utf8')
