import { PeertuneError } from '../../base/errors.js'
import type { Attribute, Node } from './graph.js'
import type { RewriteContext } from './rewrite.js'

/**
 * Spells one compound operator out in small ones: emits them and says under which name the result is. Throws
 * `onnx/unsupported-feature` for a form it does not know.
 */
export type Lowering = (node: Node, build: Build) => Lowered

/** The values that stand for the node's outputs; undefined leaves the node as it is. */
export type Lowered = readonly (string | undefined)[] | undefined

type Unary = (x: string) => string
type Binary = (a: string, b: string) => string

/** Small operators by name, each one node. */
export interface Build extends Record<'add' | 'sub' | 'mul' | 'div' | 'matmul', Binary> {
  readonly context: RewriteContext
  node(op: string, inputs: readonly string[], attributes?: Readonly<Record<string, Attribute>>): string
  unary(op: string, x: string): string
  scale(x: string, factor: number): string
  reshape(x: string, shape: readonly number[]): string
  transpose(x: string, perm: readonly number[]): string
  split(x: string, sizes: readonly number[], axis: number): readonly string[]
  concat(xs: readonly string[], axis: number): string
  expand(x: string, shape: readonly number[]): string
  gather(table: string, indices: string): string
  where(condition: string, a: string, b: string): string
  softmax: Unary
}

export const int = (value: number): Attribute => ({ type: 'int', value })
const ints = (value: readonly number[]): Attribute => ({ type: 'ints', value })

export function createBuild(context: RewriteContext): Build {
  const node: Build['node'] = (op, inputs, attributes = {}) => context.emit({ op, inputs, attributes })
  const binary =
    (op: string): Binary =>
    (a, b) =>
      node(op, [a, b])
  const mul = binary('Mul')
  return {
    context,
    node,
    add: binary('Add'),
    sub: binary('Sub'),
    mul,
    div: binary('Div'),
    matmul: binary('MatMul'),
    unary: (op, x) => node(op, [x]),
    scale: (x, factor) => (factor === 1 ? x : mul(x, context.scalar(factor))),
    reshape: (x, shape) => node('Reshape', [x, context.ints(shape)]),
    transpose: (x, perm) => node('Transpose', [x], { perm: ints(perm) }),
    split(x, sizes, axis) {
      const outputs = sizes.map(() => context.fresh('part'))
      context.emit({ op: 'Split', inputs: [x, context.ints(sizes)], attributes: { axis: int(axis) }, outputs })
      return outputs
    },
    concat: (xs, axis) => (xs.length === 1 ? (xs[0] as string) : node('Concat', xs, { axis: int(axis) })),
    expand: (x, shape) => node('Expand', [x, context.ints(shape)]),
    gather: (table, indices) => node('Gather', [table, indices], { axis: int(0) }),
    where: (condition, a, b) => node('Where', [condition, a, b]),
    softmax: (x) => node('Softmax', [x], { axis: int(-1) })
  }
}

export const numberOf = (node: Node, name: string, fallback: number): number =>
  Number(node.attributes[name]?.value ?? fallback)

/** An input that is there. */
export const given = (value: string | undefined): value is string => value !== undefined && value !== ''

/** Whether anything reads the node's output. */
export const isRead = (node: Node, index: number, context: RewriteContext): boolean => {
  const output = node.outputs[index]
  return given(output) && (context.isOutput(output) || context.consumersOf(output).length > 0)
}

export function unsupported({ op, name, module }: Node, what: string): PeertuneError {
  const where = module === undefined ? '' : ` in ${module}`
  return new PeertuneError('onnx/unsupported-feature', `${op} ${name}${where} uses ${what}`, {
    facts: { node: name, op, what, ...(module === undefined ? {} : { module }) },
    hint: 'export the model for inference without a key/value cache, or with an opset below 23 and without fused operators'
  })
}
