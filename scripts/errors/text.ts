import type { Expression, Node, ObjectExpression, Super } from 'oxc-parser'
import { type AnyFunction, meaningOf, type Scope, type SourceFile } from './sources.js'

/** Where an expression is read: who has called the functions around it, and which way the conditions went. */
export interface Context extends Scope {
  readonly sources: ReadonlyMap<string, SourceFile>
  readonly calls: ReadonlyMap<AnyFunction, Call>
  /** By the condition as it is written. */
  readonly choices: ReadonlyMap<string, boolean>
}

export interface Call {
  readonly arguments: readonly Node[]
  readonly context: Context
}

type Expr = Expression | Super

/** An expression and where to read it. */
export interface Read {
  readonly expression: Expr
  readonly context: Context
}

const sourceOf = (node: Node, { file }: Scope): string => file.text.slice(node.start, node.end)

/** The place of something that is filled in. */
export const gap = (name: string): string => `‹${name}›`

/** The text that an expression makes, with the name of what is filled in as `‹name›`. */
export function textOf(expression: Node, context: Context): string {
  switch (expression.type) {
    case 'Literal':
      return String(expression.value)
    case 'TemplateLiteral':
      return expression.quasis
        .map(
          ({ value }, i) =>
            value.cooked + (i < expression.expressions.length ? textOf(expression.expressions[i]!, context) : '')
        )
        .join('')
    case 'ConditionalExpression':
      return branchText(expression, context)
    case 'BinaryExpression':
      return isSum(expression)
        ? textOf(expression.left, context) + textOf(expression.right, context)
        : textOf(expression.left, context)
    case 'ArrayExpression':
      return expression.elements.map((one) => (one === null ? '' : textOf(one, context))).join(', ')
    case 'SpreadElement':
      return textOf(expression.argument, context)
    case 'LogicalExpression':
      return textOf(expression.left, context)
    case 'Identifier':
      return nameText(expression.name, context)
    case 'TSAsExpression':
    case 'TSNonNullExpression':
    case 'ParenthesizedExpression':
    case 'AwaitExpression':
      return textOf('argument' in expression ? expression.argument : expression.expression, context)
    case 'MemberExpression':
      return memberText(expression, context)
    case 'ChainExpression':
      return textOf(expression.expression, context)
    case 'CallExpression':
      return callText(expression, context)
    default:
      return gap('…')
  }
}

function branchText(
  { test, consequent, alternate }: Node & { type: 'ConditionalExpression' },
  context: Context
): string {
  const choice = context.choices.get(sourceOf(test, context))
  if (choice !== undefined) return textOf(choice ? consequent : alternate, context)
  const [one, other] = [textOf(consequent, context), textOf(alternate, context)]
  if (one === '' || other === '') return one + other
  return one === other ? one : `${one} / ${other}`
}

/** Constants whose text is known stand for themselves, everything else for its name. */
function nameText(name: string, context: Context): string {
  if (name === 'undefined') return ''
  const read = standsFor(name, context)
  if (read === undefined) return gap(name)
  return isText(read.expression) ? textOf(read.expression, read.context) : gap(name)
}

/** Does an expression say something, and not only compute it? */
function isText(expression: Node): boolean {
  if (expression.type === 'ConditionalExpression') return isText(expression.consequent) && isText(expression.alternate)
  return ['Literal', 'TemplateLiteral', 'Identifier'].includes(expression.type) || isSum(expression)
}

/** Of texts; a number is added by what computes. */
const isSum = (expression: Node): boolean =>
  expression.type === 'BinaryExpression' &&
  expression.operator === '+' &&
  !(expression.right.type === 'Literal' && typeof expression.right.value === 'number')

function memberText({ object, property }: Node & { type: 'MemberExpression' }, context: Context): string {
  if (property.type !== 'Identifier') return textOf(object, context)
  if (property.name !== 'length') return gap(property.name)
  return gap(`number of ${object.type === 'Identifier' ? object.name : bare(textOf(object, context))}`)
}

const bare = (text: string): string => text.replaceAll(/[‹›]/g, '')

/** `names.join(', ')` is names, `String(value)` is value. */
function callText({ callee, arguments: [first] }: Node & { type: 'CallExpression' }, context: Context): string {
  if (callee.type !== 'MemberExpression')
    return first === undefined ? gap(sourceOf(callee, context)) : textOf(first, context)
  const { object, property } = callee
  if (first !== undefined && object.type === 'Identifier' && ['Object', 'Math'].includes(object.name))
    return listText(first, ', ', context) ?? textOf(first, context)
  if (property.type === 'Identifier' && property.name === 'join' && first?.type === 'Literal')
    return listText(object, String(first.value), context) ?? textOf(object, context)
  return textOf(object, context)
}

/** The elements of an array, or the keys of an object, that stands in the code. */
function listText(node: Node, separator: string, context: Context): string | undefined {
  if (node.type === 'Identifier') {
    const read = standsFor(node.name, context)
    return read && listText(read.expression, separator, read.context)
  }
  if (node.type === 'TSAsExpression' || node.type === 'TSSatisfiesExpression')
    return listText(node.expression, separator, context)
  if (node.type === 'CallExpression' && node.callee.type === 'MemberExpression') {
    const { object } = node.callee
    const [first] = node.arguments
    return object.type === 'Identifier' && object.name === 'Object' && first
      ? listText(first, separator, context)
      : undefined
  }
  if (node.type === 'ArrayExpression' && node.elements.every((one) => one?.type === 'Literal'))
    return node.elements.map((one) => textOf(one!, context)).join(separator)
  if (node.type !== 'ObjectExpression') return undefined
  return node.properties.flatMap((one) => (one.type === 'Property' ? keyOf(one.key) : [])).join(separator)
}

const keyOf = (key: Node): readonly string[] =>
  key.type === 'Identifier' ? [key.name] : key.type === 'Literal' ? [String(key.value)] : []

/** What a name stands for here: a constant, or what a caller has passed. */
export function standsFor(name: string, context: Context): Read | undefined {
  const meaning = meaningOf(name, context)
  if (meaning === undefined) return importedValue(name, context)
  if (meaning.kind === 'value') return followed(meaning.value, meaning.keys, { ...context, ...meaning.scope })
  const call = context.calls.get(meaning.of.node)
  const argument = call?.arguments[meaning.index]
  return call === undefined || argument === undefined
    ? undefined
    : followed(argument as Expr, meaning.keys, call.context)
}

function importedValue(name: string, context: Context): Read | undefined {
  const source = context.file.imports.get(name)
  const file = source && context.sources.get(source.path)
  return file === undefined ? undefined : standsFor(source!.name, { ...context, file, functions: [] })
}

/** `{ a: { b: X } }` by a and b is X. */
function followed(expression: Expr, keys: readonly string[], context: Context): Read | undefined {
  const [key, ...rest] = keys
  if (key === undefined) return { expression, context }
  const whole = expression.type === 'Identifier' ? standsFor(expression.name, context) : { expression, context }
  if (whole?.expression.type !== 'ObjectExpression') return undefined
  const value = propertyOf(whole.expression, key)
  return value === undefined ? undefined : followed(value, rest, whole.context)
}

/** A property, also one that is spread in under a condition. */
export function propertyOf({ properties }: ObjectExpression, key: string): Expr | undefined {
  for (const property of properties) {
    if (property.type === 'Property') {
      if (property.key.type === 'Identifier' && property.key.name === key) return property.value
      continue
    }
    for (const inner of objectsIn(property.argument)) {
      const found = propertyOf(inner, key)
      if (found !== undefined) return found
    }
  }
  return undefined
}

function objectsIn(node: Node): readonly ObjectExpression[] {
  if (node.type === 'ObjectExpression') return [node]
  if (node.type === 'ConditionalExpression') return [...objectsIn(node.consequent), ...objectsIn(node.alternate)]
  if (node.type === 'LogicalExpression') return objectsIn(node.right)
  return node.type === 'ParenthesizedExpression' ? objectsIn(node.expression) : []
}
