import { describe, expect, it } from 'vitest'
import { intConstant } from '../../../src/onnx/graph/constant.js'
import { createSession } from '../../../src/onnx/runtime/session.js'
import { foldConstantsAndAliases } from '../../../src/onnx/canonical/simplify.js'
import type { Graph } from '../../../src/onnx/graph/graph.js'
import { CANONICAL_OPSET, NEWEST_OPSET, OLDEST_OPSET, upgradeOpset } from '../../../src/onnx/canonical/upgrade.js'
import { writeModel } from '../../../src/onnx/file/write.js'
import { float, opsOf, type SmallGraph, type SmallNode, smallGraph, wave } from '../small-graph.js'

const int = (value: number) => ({ type: 'int', value }) as const
const ints = (...value: number[]) => ({ type: 'ints', value }) as const
const real = (value: number) => ({ type: 'float', value }) as const

async function run(graph: Graph, small: SmallGraph, outputs: readonly string[]) {
  const session = await createSession(writeModel({ ...graph, outputs: [] }, { untypedOutputs: outputs }), {
    optimization: 'disabled'
  })
  const feeds = Object.fromEntries(Object.entries(small.inputs).map(([name, shape]) => [name, float(shape, wave)]))
  const results = await session.run(feeds)
  await session.release()
  return results
}

/** Runs a graph as it was exported and as it is read: the same numbers, bit for bit. */
async function expectSame(small: SmallGraph): Promise<Graph> {
  const old = smallGraph(small)
  const upgraded = upgradeOpset(old)
  expect(upgraded.opsets['']).toBe(CANONICAL_OPSET)
  const outputs = old.nodes.flatMap((node) => node.outputs)
  const expected = await run(old, small, outputs)
  expect(Object.values(expected).every(({ data }) => data.length > 0)).toBe(true)
  expect(await run(upgraded, small, outputs)).toEqual(expected)
  return upgraded
}

const x = [3, 2, 5, 4]
const one = (opset: number, op: string, attributes: SmallNode['attributes'] = {}, out = ['y']): SmallGraph => ({
  inputs: { x },
  nodes: [{ op, in: ['x'], out, attributes }],
  output: 'y',
  opset
})

describe('a graph of an older opset computes the same after the upgrade', () => {
  it.each([9, 11, 12])('Softmax and LogSoftmax of opset %i, over several axes at once', async (opset) => {
    for (const op of ['Softmax', 'LogSoftmax'])
      for (const attributes of [{}, ...[0, 1, 2, 3].map((axis) => ({ axis: int(axis) }))])
        await expectSame(one(opset, op, attributes))
    await expectSame(one(11, 'Softmax', { axis: int(-1) }))
    await expectSame(one(11, 'Softmax', { axis: int(-2) }))
  })

  it('Slice, Clip, Pad and Dropout with their settings as attributes', async () => {
    await expectSame(one(9, 'Slice', { starts: ints(1, -3), ends: ints(3, 99), axes: ints(0, 2) }))
    await expectSame(one(9, 'Slice', { starts: ints(1, 0), ends: ints(2, 1) }))
    await expectSame(one(9, 'Clip', { min: real(-0.5), max: real(0.75) }))
    await expectSame(one(9, 'Clip', { max: real(0.75) }))
    await expectSame(one(9, 'Clip', { min: real(0.25) }))
    await expectSame(one(9, 'Pad', { pads: ints(0, 1, 0, 2, 1, 0, 0, 3), value: real(0.5) }))
    await expectSame(one(9, 'Dropout', { ratio: real(0.25) }))
    await expectSame(one(11, 'Dropout', { ratio: real(0.25) }))
  })

  it.each([9, 11, 12])('Squeeze, Unsqueeze, ReduceSum and Split of opset %i', async (opset) => {
    await expectSame(one(opset, 'Unsqueeze', { axes: ints(0, 3) }))
    await expectSame({
      inputs: { x: [3, 1, 5, 1] },
      nodes: [
        { op: 'Squeeze', in: ['x'], out: ['y'] },
        { op: 'Squeeze', in: ['x'], out: ['z'], attributes: { axes: ints(3) } }
      ],
      output: 'y',
      opset
    })
    await expectSame(one(opset, 'ReduceSum', { axes: ints(0, 2), keepdims: int(0) }))
    await expectSame(one(opset, 'ReduceSum'))
    await expectSame(one(opset, 'Split', { axis: int(2), split: ints(1, 4) }, ['y', 'z']))
    await expectSame(one(opset, 'Split', { axis: int(3) }, ['y', 'z']))
  })

  it.each([11, 13, 17])('reductions of opset %i', async (opset) => {
    for (const kind of ['L1', 'L2', 'LogSum', 'LogSumExp', 'Max', 'Mean', 'Min', 'Prod', 'SumSquare'])
      for (const attributes of [{ axes: ints(1, 3), keepdims: int(0) }, { axes: ints(2) }, {}])
        await expectSame({
          inputs: { x },
          nodes: [
            { op: 'Abs', in: ['x'], out: ['a'] },
            { op: `Reduce${kind}`, in: ['a'], out: ['y'], attributes }
          ],
          output: 'y',
          opset
        })
    if (opset > 11)
      await expectSame({
        inputs: { x },
        constants: [intConstant('sizes', [2, 2])],
        nodes: [
          { op: 'Split', in: ['x'], out: ['a', 'b', 'c'], attributes: { axis: int(0) } },
          { op: 'Split', in: ['x', 'sizes'], out: ['d', 'e'], attributes: { axis: int(3) } }
        ],
        output: 'a',
        opset
      })
  })
})

describe('opsets', () => {
  it('newer than the canonical one stay', () => {
    for (const opset of [CANONICAL_OPSET, 23, NEWEST_OPSET])
      expect(upgradeOpset(smallGraph(one(opset, 'Relu'))).opsets['']).toBe(opset)
  })
  it('that the runtime does not take, or that are too old, are refused by number', () => {
    for (const opset of [OLDEST_OPSET - 1, NEWEST_OPSET + 1])
      expect(() => upgradeOpset(smallGraph(one(opset, 'Relu')))).toThrowError(
        expect.objectContaining({ code: 'onnx/unsupported-opset', message: `the model is of opset ${opset}` })
      )
  })
})

describe('Dropout', () => {
  it('vanishes, active or not, in the middle and at the end', () => {
    const graph = foldConstantsAndAliases(
      smallGraph({
        inputs: { x },
        nodes: [
          { op: 'Dropout', in: ['x', 'ratio', 'training'], out: ['a', 'unread_mask'] },
          { op: 'Relu', in: ['a'], out: ['b'] },
          { op: 'Dropout', in: ['b'], out: ['y'] }
        ],
        output: 'y'
      })
    )
    expect(opsOf(graph)).toEqual(['Relu', 'Identity'])
    expect(graph.nodes[0]?.inputs).toEqual(['x'])
  })
  it('whose mask is read stays', () => {
    const graph = foldConstantsAndAliases(
      smallGraph({
        inputs: { x },
        nodes: [
          { op: 'Dropout', in: ['x'], out: ['a', 'mask'] },
          { op: 'Where', in: ['mask', 'a', 'x'], out: ['y'] }
        ],
        output: 'y'
      })
    )
    expect(opsOf(graph)).toContain('Dropout')
  })
})
