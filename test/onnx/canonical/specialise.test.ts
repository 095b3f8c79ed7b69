import { describe, expect, it } from 'vitest'
import type { Initializer } from '../../../src/onnx/graph/graph.js'
import { specialise } from '../../../src/onnx/canonical/specialise.js'
import { opsOf, smallGraph } from '../small-graph.js'

const NO_WEIGHTS: ReadonlySet<string> = new Set()

const floats = (name: string, values: readonly number[]): Initializer => ({
  name,
  type: 'float32',
  shape: [values.length],
  data: { kind: 'inline', bytes: new Uint8Array(Float32Array.from(values).buffer) }
})

describe('specialise', () => {
  it('a graph with nothing to fold comes back with the types and shapes that the runtime finds', async () => {
    // The exporter's type of the output is not asked: the runtime writes none where it changed nothing.
    const graph = smallGraph({
      inputs: { x: [5, 3], y: [3] },
      nodes: [
        { op: 'Mul', in: ['x', 'y'], out: ['product'] },
        { op: 'ArgMax', in: ['product'], out: ['largest'], attributes: { axis: { type: 'int', value: 1 } } }
      ],
      output: 'largest'
    })
    const special = await specialise(graph, { x: [5, 3], y: [3] }, NO_WEIGHTS)
    expect(opsOf(special)).toEqual(['Mul', 'ArgMax'])
    expect(special.outputs).toEqual([{ name: 'largest', type: 'int64', shape: [5, 1] }])
    expect(special.values.get('product')).toEqual({ name: 'product', type: 'float32', shape: [5, 3] })
  })

  it('a single node on a weight keeps the weight, whose values take no part', async () => {
    const graph = smallGraph({
      inputs: { x: [2, 3] },
      constants: [floats('w', [1, 2, 4])],
      nodes: [{ op: 'Mul', in: ['x', 'w'], out: ['y'] }],
      output: 'y'
    })
    const special = await specialise(graph, { x: [2, 3] }, new Set(['w']))
    expect(special.outputs).toEqual([{ name: 'y', type: 'float32', shape: [2, 3] }])
    expect(special.inputs.map(({ name }) => name)).toEqual(['x'])
    expect(special.initializers.get('w')).toBe(graph.initializers.get('w'))
  })

  it('what is constant is folded: a shape, its product and the reshape to it', async () => {
    const graph = smallGraph({
      inputs: { x: [4, 6] },
      constants: [floats('one', [1])],
      nodes: [
        { op: 'Shape', in: ['x'], out: ['shape'] },
        { op: 'ReduceProd', in: ['shape'], out: ['size'], attributes: { keepdims: { type: 'int', value: 1 } } },
        { op: 'Reshape', in: ['x', 'size'], out: ['flat'] },
        { op: 'Add', in: ['flat', 'one'], out: ['y'] }
      ],
      output: 'y'
    })
    const special = await specialise(graph, { x: [4, 6] }, NO_WEIGHTS)
    expect(opsOf(special)).toEqual(['Reshape', 'Add'])
    expect(special.outputs).toEqual([{ name: 'y', type: 'float32', shape: [24] }])
  })
})
