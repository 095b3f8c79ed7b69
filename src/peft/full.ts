import type { Graph, Node } from '../onnx/graph.js'
import { huggingFaceShape, huggingFaceValues } from './layout.js'
import type { Adapter, BaseModel } from './method.js'

/**
 * Every floating-point parameter of the base trains, from its own values, under its Hugging Face name and in Hugging
 * Face's layout. Made for pre-training small models; tied tensors are one parameter.
 */
export function createFull({ weights, read }: BaseModel): Adapter {
  const all = Array.from(weights.values())
  return {
    tensors: all.map((weight) => ({
      name: weight.name,
      shape: huggingFaceShape(weight),
      initial: huggingFaceValues(read(weight.initializer), {
        transposed: weight.transposed,
        shape: weight.initializer.shape
      })
    })),
    rewrite: (graph) =>
      freeWeights(
        graph,
        new Map(all.map((weight) => [weight.name, huggingFaceShape(weight)])),
        new Set(all.filter(({ transposed }) => transposed).map(({ name }) => name))
      )
  }
}

type Shapes = ReadonlyMap<string, readonly number[]>

/** Turns constants into inputs. Only linear layers have transposed weights, and they take either layout by a flag. */
function freeWeights(graph: Graph, shapes: Shapes, transposed: ReadonlySet<string>): Graph {
  const inputs = Array.from(shapes, ([name, shape]) => ({ name, type: 'float32', shape }) as const)
  const nodes = graph.nodes.map((node): Node => {
    if (node.op !== 'Gemm' || !transposed.has(node.inputs[1] as string)) return node
    const transB = { type: 'int', value: node.attributes.transB?.value === 1 ? 0 : 1 } as const
    return { ...node, attributes: { ...node.attributes, transB } }
  })
  return {
    ...graph,
    inputs: [...graph.inputs, ...inputs],
    nodes,
    initializers: new Map([...graph.initializers].filter(([name]) => !shapes.has(name))),
    values: new Map([...graph.values, ...inputs.map((input) => [input.name, input] as const)])
  }
}
