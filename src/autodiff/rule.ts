import { PeertuneError } from '../base/errors.js'
import { intValues } from '../onnx/graph/constant.js'
import type { Node } from '../onnx/graph/graph.js'
import type { Ops } from './ops.js'

/**
 * A cotangent of a value: the name of a tensor of its shape (or of a shape it was broadcast to), or a piece of it along
 * one axis, zero elsewhere. Pieces that tile the axis become one Concat instead of padded sums.
 */
export type Cotangent = string | Piece

export interface Piece {
  readonly axis: number
  readonly start: number
  readonly value: string
}

/** What a rule sees: inputs I, outputs O and the cotangents of the outputs, by name. */
export interface RuleContext {
  readonly op: Ops
  readonly node: Node
  readonly I: readonly string[]
  readonly O: readonly string[]
  /** Cotangent of the first output. */
  readonly dO: string
  /** Cotangents of all outputs; undefined where nothing downstream depends on one. */
  readonly dOs: readonly (string | undefined)[]
  /** Forward nodes that read `value`. */
  consumersOf(value: string): readonly Node[]
  /** The whole cotangent of an output of a later forward node. */
  cotangentOf(value: string): string | undefined
}

/** Makes the cotangent of one input; called only when that input is on a path from a parameter. */
export type Derivative = () => Cotangent

/**
 * dO -> dI, one derivative per input in order. A missing derivative says that the loss does not depend on that input
 * smoothly (indices, shapes, conditions).
 */
export type Rule = (context: RuleContext) => readonly (Derivative | undefined)[]

/** `null` marks an op through which no gradient flows, as opposed to an op nobody thought of. */
export type RuleTable = Readonly<Record<string, Rule | null>>

/** Computes a subexpression that several derivatives of one rule share, once and only if asked for. */
export function shared<T>(make: () => T): () => T {
  let made: { readonly value: T } | undefined
  return () => {
    made ??= { value: make() }
    return made.value
  }
}

export const intAttribute = (node: Node, name: string, fallback: number): number => {
  const attribute = node.attributes[name]
  return attribute?.type === 'int' ? attribute.value : fallback
}

export const floatAttribute = (node: Node, name: string, fallback: number): number => {
  const attribute = node.attributes[name]
  return attribute?.type === 'float' ? attribute.value : fallback
}

export const stringAttribute = (node: Node, name: string, fallback: string): string => {
  const attribute = node.attributes[name]
  return attribute?.type === 'string' ? attribute.value : fallback
}

export const intsAttribute = (node: Node, name: string): readonly number[] | undefined => {
  const attribute = node.attributes[name]
  return attribute?.type === 'ints' ? attribute.value : undefined
}

/** Integers of a constant input: axes, sizes, starts. Throws `autodiff/not-constant`. */
export function constantInts({ op, node }: RuleContext, value: string): number[] {
  const initializer = op.emitter.initializerOf(value)
  if (initializer !== undefined) return intValues(initializer)
  throw new PeertuneError('autodiff/not-constant', `${node.op} ${node.name} takes ${value}, which is computed`, {
    facts: { op: node.op, node: node.name, value },
    hint: 'canonicalise the graph at a fixed batch shape, which folds shape arithmetic into constants'
  })
}

/** An op whose table entry covers only some of its forms. */
export const unsupportedForm = ({ node }: RuleContext, form: string): PeertuneError =>
  new PeertuneError('autodiff/no-rule', `no derivative of ${node.op} ${node.name} with ${form}`, {
    facts: { op: node.op, node: node.name, form, ...(node.module === undefined ? {} : { module: node.module }) },
    hint: 'train only layers above this node, or export the model without that form'
  })
