import { floatConstant } from '../../onnx/graph/constant.js'
import type { Attribute, Graph, Node, ValueInfo } from '../../onnx/graph/graph.js'
import { type RewriteContext, rewriteGraph } from '../../onnx/graph/rewrite.js'
import type { AdapterTensor } from '../method/method.js'
import type { LinearModule } from '../method/target.js'

/** One use of a linear layer in a canonical graph: y = x W + bias on matrices. */
export interface LinearUse<M extends LinearModule = LinearModule> {
  readonly module: M
  readonly gemm: Node
  /** [rows, in] */
  readonly x: string
  /** [rows, out]; the replacement must make it under this name. */
  readonly y: string
  readonly weight: string
  readonly bias: string | undefined
  readonly rows: number
}

/** A graph with these trained tensors as inputs, and these frozen ones as constants. A weight of that name is gone. */
export function withTensors(
  graph: Graph,
  tensors: readonly AdapterTensor[],
  frozen: readonly AdapterTensor[] = []
): Graph {
  const inputs = tensors.map(({ name, shape }) => float32Value(name, shape))
  const constants = frozen.map(({ name, shape, initial }) => floatConstant(name, initial, shape))
  const initializers = new Map(graph.initializers)
  for (const { name } of inputs) initializers.delete(name)
  for (const constant of constants) initializers.set(constant.name, constant)
  const values = new Map(graph.values)
  for (const { name, type, shape } of [...inputs, ...constants]) values.set(name, { name, type, shape })
  return { ...graph, inputs: [...graph.inputs, ...inputs], initializers, values }
}

/** Visits every use of the modules' weights; `adapt` emits what takes its place. */
export function rewriteLinears<M extends LinearModule>(
  graph: Graph,
  modules: readonly M[],
  adapt: (use: LinearUse<M>, context: RewriteContext) => void
): Graph {
  const byWeight = new Map(modules.map((module) => [module.weight.name, module]))
  return rewriteGraph(graph, (gemm, context) => {
    const [x = '', weight = '', bias = ''] = gemm.inputs
    const module = gemm.op === 'Gemm' ? byWeight.get(weight) : undefined
    if (module === undefined) return false
    const y = gemm.outputs[0] as string
    const rows = context.shapeOf(y)[0] as number
    adapt({ module, gemm, x, y, weight, bias: bias === '' ? undefined : bias, rows }, context)
    return true
  })
}

/** The layer as it was, under a fresh name unless `output` is given; other inputs and attributes where they differ. */
export const emitBase = (
  { gemm, module, rows }: LinearUse,
  context: RewriteContext,
  { inputs = gemm.inputs, output }: { readonly inputs?: readonly string[]; readonly output?: string } = {}
): string =>
  context.emit({
    op: 'Gemm',
    inputs,
    attributes: gemm.attributes,
    shape: [rows, module.outFeatures],
    ...(output === undefined ? {} : { outputs: [output] })
  })

export const int = (value: number): Attribute => ({ type: 'int', value })
export const real = (value: number): Attribute => ({ type: 'float', value })

const float32Value = (name: string, shape: readonly number[]): ValueInfo => ({ name, type: 'float32', shape })
