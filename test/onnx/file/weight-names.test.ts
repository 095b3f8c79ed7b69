import { describe, expect, it } from 'vitest'
import { floatConstant } from '../../../src/onnx/graph/constant.js'
import { wrapperPrefix } from '../../../src/onnx/graph/module-path.js'
import { nameModel } from '../../../src/onnx/canonical/canonicalise.js'
import { evaluate, float, largestDifference, opsOf, smallGraph, wave } from '../small-graph.js'

const ones = (length: number) => new Float32Array(length).fill(1)
const numbers = (length: number) => Float32Array.from({ length }, (_, index) => wave(index))

describe('naming weights', () => {
  it('gives each user of a shared initializer its own value', () => {
    const graph = smallGraph({
      inputs: { x: [2, 4] },
      constants: [floatConstant('ln_1.weight', ones(4), [4]), floatConstant('zeros', new Float32Array(4), [4])],
      nodes: [
        { op: 'LayerNormalization', in: ['x', 'ln_1.weight', 'zeros'], out: ['a'], module: 'h.0.ln_1' },
        { op: 'LayerNormalization', in: ['a', 'ln_1.weight', 'zeros'], out: ['b'], module: 'h.1.ln_1' }
      ],
      output: 'b'
    })
    const { graph: named, weights } = nameModel({ ...graph, nodes: [...graph.nodes] })
    // `h` is in front of every path: a wrapper's name.
    expect([...weights.keys()]).toEqual(['0.ln_1.weight', '0.ln_1.bias', '1.ln_1.weight', '1.ln_1.bias'])
    expect(named.nodes.map(({ inputs }) => inputs.slice(1))).toEqual([
      ['0.ln_1.weight', '0.ln_1.bias'],
      ['1.ln_1.weight', '1.ln_1.bias']
    ])
  })

  it('tells a transposed anonymous copy from a weight under its own name', () => {
    const graph = smallGraph({
      inputs: { x: [2, 3] },
      constants: [floatConstant('val_7', numbers(12), [3, 4]), floatConstant('b.weight', numbers(20), [4, 5])],
      nodes: [
        { op: 'MatMul', in: ['x', 'val_7'], out: ['u'], module: 'a' },
        { op: 'Gemm', in: ['u', 'b.weight'], out: ['y'], module: 'b' }
      ],
      output: 'y'
    })
    const { weights } = nameModel(graph)
    expect(weights.get('a.weight')).toMatchObject({ transposed: true, linear: { inFeatures: 3, outFeatures: 4 } })
    expect(weights.get('b.weight')).toMatchObject({ transposed: false, linear: { inFeatures: 4, outFeatures: 5 } })
  })

  it('makes a tied head the embedding, read through a Transpose, and leaves the result alone', async () => {
    const table = numbers(5 * 3)
    const head = Float32Array.from(
      { length: 15 },
      (_, index) => table[(index % 5) * 3 + Math.floor(index / 5)] as number
    )
    const graph = smallGraph({
      inputs: { ids: [2] },
      types: { ids: 'int64' },
      constants: [floatConstant('wte.weight', table, [5, 3]), floatConstant('val_1', head, [3, 5])],
      nodes: [
        { op: 'Gather', in: ['wte.weight', 'ids'], out: ['x'], module: 'transformer.wte' },
        { op: 'MatMul', in: ['x', 'val_1'], out: ['logits'], module: 'lm_head' }
      ],
      output: 'logits'
    })
    const { graph: named, weights } = nameModel(graph)
    expect([...weights.keys()]).toEqual(['transformer.wte.weight'])
    expect(opsOf(named)).toEqual(['Gather', 'Transpose', 'MatMul'])
    const feeds = { ids: { type: 'int64', shape: [2], data: Int32Array.of(4, 1) } } as const
    const [before, after] = [await evaluate(graph, feeds), await evaluate(named, feeds)]
    expect(largestDifference(before.logits, after.logits)).toBe(0)
  })

  it('does not take equal constant tensors for tied', () => {
    const graph = smallGraph({
      inputs: { ids: [2] },
      types: { ids: 'int64' },
      constants: [floatConstant('wte.weight', ones(15), [5, 3]), floatConstant('val_1', ones(15), [3, 5])],
      nodes: [
        { op: 'Gather', in: ['wte.weight', 'ids'], out: ['x'], module: 'transformer.wte' },
        { op: 'MatMul', in: ['x', 'val_1'], out: ['logits'], module: 'lm_head' }
      ],
      output: 'logits'
    })
    expect([...nameModel(graph).weights.keys()]).toEqual(['transformer.wte.weight', 'lm_head.weight'])
  })

  it('takes a module that is called again for the same one', () => {
    const weight = floatConstant('onnx::MatMul_7', numbers(16), [4, 4])
    const graph = smallGraph({
      inputs: { x: [2, 4] },
      constants: [weight, floatConstant('layer.query.bias', numbers(4), [4]), floatConstant('other', ones(16), [4, 4])],
      nodes: [
        { op: 'MatMul', in: ['x', 'onnx::MatMul_7'], out: ['a'], module: 'layer.query' },
        { op: 'Add', in: ['a', 'layer.query.bias'], out: ['b'], module: 'layer.query' },
        { op: 'MatMul', in: ['b', 'onnx::MatMul_7'], out: ['c'], module: 'layer.query_1' },
        { op: 'Add', in: ['c', 'layer.query.bias'], out: ['d'], module: 'layer.query_1' },
        // Its own weight makes it a module of its own, whatever it is called.
        { op: 'MatMul', in: ['d', 'other'], out: ['y'], module: 'layer.query_2' }
      ],
      output: 'y'
    })
    const { graph: named, weights } = nameModel(graph)
    expect([...weights.keys()]).toEqual(['query.weight', 'query.bias', 'query_2.weight'])
    expect(named.nodes.map(({ inputs }) => inputs[1])).toEqual([
      'query.weight',
      'query.bias',
      'query.weight',
      'query.bias',
      'query_2.weight'
    ])
  })

  it('puts in the module that TorchScript leaves out because nobody calls it', () => {
    const graph = smallGraph({
      inputs: { x: [2, 4] },
      constants: [
        floatConstant('m.model.decoder.fc1.bias', numbers(4), [4]),
        floatConstant('onnx::MatMul_1', numbers(16), [4, 4]),
        floatConstant('onnx::MatMul_2', numbers(20), [4, 5])
      ],
      nodes: [
        { op: 'MatMul', in: ['x', 'onnx::MatMul_1'], out: ['a'], module: 'm.decoder.fc1' },
        { op: 'Add', in: ['a', 'm.model.decoder.fc1.bias'], out: ['b'], module: 'm.decoder.fc1' },
        { op: 'MatMul', in: ['b', 'onnx::MatMul_2'], out: ['y'], module: 'm.lm_head' }
      ],
      output: 'y'
    })
    expect([...nameModel(graph).weights.keys()]).toEqual([
      'model.decoder.fc1.weight',
      'model.decoder.fc1.bias',
      'lm_head.weight'
    ])
  })

  it('names a scale as the model does, and takes an anonymous one for a constant', () => {
    const graph = smallGraph({
      inputs: { x: [2, 4] },
      constants: [floatConstant('net.block.layer_scale', numbers(4), [4]), floatConstant('onnx::Mul_9', ones(4), [4])],
      nodes: [
        { op: 'Mul', in: ['x', 'net.block.layer_scale'], out: ['a'], module: 'net.block' },
        { op: 'Mul', in: ['a', 'onnx::Mul_9'], out: ['y'], module: 'net.norm' }
      ],
      output: 'y'
    })
    expect([...nameModel(graph).weights.keys()]).toEqual(['block.layer_scale'])
  })

  it('keeps buffers constants', async () => {
    const graph = smallGraph({
      inputs: { x: [2, 3, 1] },
      constants: [floatConstant('rotary_emb.inv_freq', numbers(3), [1, 3, 1]), floatConstant('scale', 0.5)],
      nodes: [
        { op: 'Mul', in: ['x', 'rotary_emb.inv_freq'], out: ['a'], module: 'rotary_emb' },
        { op: 'Mul', in: ['a', 'scale'], out: ['y'], module: 'attention' }
      ],
      output: 'y'
    })
    const { graph: named, weights } = nameModel(graph)
    expect(weights.size).toBe(0)
    const feeds = { x: float([2, 3, 1], wave) }
    const [before, after] = [await evaluate(graph, feeds), await evaluate(named, feeds)]
    expect(largestDifference(before.y, after.y)).toBe(0)
  })

  it('refuses opsets whose operators mean something else', () => {
    const graph = smallGraph({
      inputs: { x: [2] },
      nodes: [{ op: 'Relu', in: ['x'], out: ['y'] }],
      output: 'y',
      opset: 8
    })
    expect(() => nameModel(graph)).toThrowError(expect.objectContaining({ code: 'onnx/unsupported-opset' }))
  })
})

describe('a wrapper’s prefix', () => {
  it.each([
    [['m.transformer.h.0', 'm.lm_head'], 'm.'],
    [['m.n.a.b', 'm.n.c'], 'm.n.'],
    [['model.layers.0', 'lm_head'], ''],
    [['classifier'], ''],
    [[], '']
  ])('%j -> %j', (paths, prefix) => {
    expect(wrapperPrefix(paths)).toBe(prefix)
    expect(wrapperPrefix(paths.toReversed())).toBe(prefix)
  })
})
