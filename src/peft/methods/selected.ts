import type { Graph, Node } from '../../onnx/graph/graph.js'
import type { Weight } from '../../onnx/graph/weight.js'
import { huggingFaceShape, huggingFaceValues } from '../method/layout.js'
import type { Adapter, BaseModel } from '../method/method.js'
import { withTensors } from '../rewrite/rewrite-linear.js'

export interface SelectedWeight {
  readonly weight: Weight
  /** Name among the parameters; that of the weight where left out. */
  readonly name?: string
}

/**
 * Weights of the base that train whole, from their own values and in Hugging Face's layout: what all selective methods
 * are made of. Linear in its parameters: mixing is exact.
 */
export function createSelected(selected: readonly SelectedWeight[], { read }: Pick<BaseModel, 'read'>): Adapter {
  const all = selected.map(({ weight, name = weight.name }) => ({ weight, name }))
  const tensors = all.map(({ weight, name }) => ({
    name,
    shape: huggingFaceShape(weight),
    initial: huggingFaceValues(read(weight.initializer), {
      transposed: weight.transposed,
      shape: weight.initializer.shape
    })
  }))
  return {
    tensors,
    rewrite(graph) {
      const names = new Map(all.map(({ weight, name }) => [weight.name, name]))
      const transposed = new Set(all.flatMap(({ weight }) => (weight.transposed ? weight.name : [])))
      return withTensors(readInputs(graph, names, transposed), tensors)
    },
    merge(target, values) {
      for (const { weight, name } of all)
        target.replace(weight.name, values.get(name) as Float32Array, huggingFaceShape(weight))
    }
  }
}

/** Nodes read the parameter, no longer the constant. Only linear layers have transposed weights; a flag of theirs turns. */
function readInputs(graph: Graph, names: ReadonlyMap<string, string>, transposed: ReadonlySet<string>): Graph {
  const nodes = graph.nodes.map((node): Node => {
    const inputs = node.inputs.map((input) => names.get(input) ?? input)
    if (node.op !== 'Gemm' || !transposed.has(node.inputs[1] as string)) return { ...node, inputs }
    const transB = { type: 'int', value: node.attributes.transB?.value === 1 ? 0 : 1 } as const
    return { ...node, inputs, attributes: { ...node.attributes, transB } }
  })
  return {
    ...graph,
    nodes,
    initializers: new Map([...graph.initializers].filter(([name]) => !names.has(name))),
    values: new Map([...graph.values].filter(([name]) => !names.has(name)))
  }
}
