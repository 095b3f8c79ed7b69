import type { Node } from 'oxc-parser'
import { type AnyFunction, childrenOf, isFunction, nodesOf, type SourceFile } from './sources.js'
import type { Context } from './text.js'

/** The texts that a function may give back, as they stand in its `return`s. */
export function returnedTexts(call: Node, context: Context): readonly string[] {
  if (call.type !== 'CallExpression' || call.callee.type !== 'Identifier') return []
  const { name } = call.callee
  const imported = context.file.imports.get(name)
  const file = imported === undefined ? context.file : context.sources.get(imported.path)
  const called = file && functionIn(file, imported?.name ?? name)
  return called?.body ? textsIn(called.body) : []
}

function functionIn(file: SourceFile, name: string): AnyFunction | undefined {
  for (const { node } of nodesOf(file)) if (node.type === 'FunctionDeclaration' && node.id?.name === name) return node
  return undefined
}

const textsIn = (node: Node): readonly string[] => {
  if (node.type === 'ReturnStatement') return node.argument === null ? [] : choicesIn(node.argument)
  return isFunction(node) ? [] : childrenOf(node).flatMap(textsIn)
}

function choicesIn(node: Node): readonly string[] {
  if (node.type === 'ConditionalExpression') return [...choicesIn(node.consequent), ...choicesIn(node.alternate)]
  return node.type === 'Literal' && typeof node.value === 'string' ? [node.value] : []
}
