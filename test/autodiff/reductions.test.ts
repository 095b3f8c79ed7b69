import { describe, it } from 'vitest'
import { checkGradients, type ConstantInput, float, type GradientCase, int, random } from './gradient-check.js'
import { broadcast, layerNorm, map, mean, type NDArray, reduce, rmsNorm, softmax, sum } from './reference.js'

const l2 = (values: readonly number[]): number => Math.sqrt(sum(values.map((v) => v * v)))
const REDUCTIONS: Readonly<Record<string, (values: readonly number[]) => number>> = {
  ReduceSum: sum,
  ReduceMean: mean,
  ReduceMax: (values) => Math.max(...values),
  ReduceMin: (values) => Math.min(...values),
  ReduceL2: l2,
  ReduceL1: (values) => sum(values.map(Math.abs)),
  ReduceLogSumExp: (values) => Math.log(sum(values.map(Math.exp))),
  ReduceSumSquare: (values) => l2(values) ** 2
}

describe('reductions over axes from a constant', () => {
  for (const [op, f] of Object.entries(REDUCTIONS))
    for (const keepdims of [0, 1])
      it(`${op}, keepdims ${keepdims}: last, first, several, negative axes, rank 1 and 5`, async () => {
        const check = (shape: readonly number[], given: readonly number[], axes: readonly number[]) =>
          checkGradients({
            op,
            attributes: { keepdims: int(keepdims) },
            inputs: [random(shape), { ints: given }],
            forward: (x) => reduce(x as NDArray, axes, keepdims === 1, f)
          })
        await check([2, 3, 4], [2], [2])
        await check([2, 3, 4], [0], [0])
        await check([2, 3, 4], [-1, 0], [2, 0])
        await check([5], [-1], [0])
        await check([2, 1, 3, 2, 2], [1, -2], [1, 3])
      })

  it('over every axis when none is named', () =>
    checkGradients({
      op: 'ReduceMean',
      attributes: { keepdims: int(0) },
      inputs: [random([2, 3])],
      forward: (x) => reduce(x as NDArray, [0, 1], false, mean)
    }))

  it('over none when told so', () =>
    checkGradients({
      op: 'ReduceSum',
      attributes: { noop_with_empty_axes: int(1) },
      inputs: [random([2, 3])],
      forward: (x) => x as NDArray
    }))
})

describe('softmax', () => {
  for (const axis of [-1, 0, 1])
    it(`Softmax and LogSoftmax over axis ${axis}`, async () => {
      const inputs = [random([3, 4, 2])]
      const own = axis < 0 ? axis + 3 : axis
      const forward: GradientCase['forward'] = (x) => softmax(x as NDArray, own)
      await checkGradients({ op: 'Softmax', attributes: { axis: int(axis) }, inputs, forward })
      await checkGradients({
        op: 'LogSoftmax',
        attributes: { axis: int(axis) },
        inputs,
        forward: (x) => map(softmax(x as NDArray, own), Math.log)
      })
    })
})

describe('normalisation', () => {
  const shape = [2, 3, 5]
  const epsilon = 0.01
  const x = random(shape)
  const attributes = { epsilon: float(epsilon) }
  const over = (axis: number): readonly NDArray[] => {
    const inner = shape.slice(axis)
    return [random(inner, { seed: 'scale' }), random(inner, { seed: 'bias' })]
  }

  for (const axis of [-1, 1])
    it(`LayerNormalization from axis ${axis}`, () => {
      const [scale, bias] = over(axis) as [NDArray, NDArray]
      return checkGradients({
        op: 'LayerNormalization',
        attributes: { ...attributes, axis: int(axis) },
        inputs: [x, scale, bias],
        forward: (a, s, b) => layerNorm(a as NDArray, s as NDArray, b as NDArray, axis < 0 ? 2 : axis, epsilon)
      })
    })

  it('LayerNormalization without a bias', () =>
    checkGradients({
      op: 'LayerNormalization',
      attributes,
      inputs: [x, over(2)[0] as NDArray],
      forward: (a, s) => layerNorm(a as NDArray, s as NDArray, { shape: [1], data: [0] }, 2, epsilon)
    }))

  it('LayerNormalization far from zero', () =>
    checkGradients({
      op: 'LayerNormalization',
      attributes,
      inputs: [random(shape, { low: 9, high: 11 }), ...over(2)],
      forward: (a, s, b) => layerNorm(a as NDArray, s as NDArray, b as NDArray, 2, epsilon)
    }))

  for (const [op, opset] of [
    ['SimplifiedLayerNormalization', 20],
    ['RMSNormalization', 23]
  ] as const)
    it(op, () => {
      const inputs: readonly (NDArray | ConstantInput)[] = [x, over(2)[0] as NDArray]
      const forward: GradientCase['forward'] = (a, s) => rmsNorm(a as NDArray, s as NDArray, 2, epsilon)
      return checkGradients({ op, opset, attributes, inputs, forward })
    })

  it('BatchNormalization with frozen statistics', () => {
    const channels = [3]
    const mean3 = [0.25, -0.5, 1]
    const variance = [0.5, 2, 1.5]
    return checkGradients({
      op: 'BatchNormalization',
      attributes,
      inputs: [
        random([2, 3, 2, 4]),
        random(channels, { seed: 'scale' }),
        random(channels, { seed: 'bias' }),
        { floats: mean3, shape: channels },
        { floats: variance, shape: channels }
      ],
      forward: (a, s, b) => {
        const wide = (data: readonly number[]): NDArray => ({ shape: [3, 1, 1], data })
        return broadcast(
          [a as NDArray, wide(mean3), wide(variance), wide((s as NDArray).data), wide((b as NDArray).data)],
          (v = 0, m = 0, q = 0, g = 0, c = 0) => ((v - m) / Math.sqrt(q + epsilon)) * g + c
        )
      }
    })
  })

  it('InstanceNormalization over two axes and over one', async () => {
    for (const space of [[2, 5], [4]])
      await checkGradients({
        op: 'InstanceNormalization',
        attributes,
        inputs: [random([2, 3, ...space]), random([3], { seed: 'scale' }), random([3], { seed: 'bias' })],
        forward: (a, s, b) => {
          const wide = (value?: NDArray): NDArray => ({
            shape: [3, ...space.map(() => 1)],
            data: (value as NDArray).data
          })
          return layerNorm(a as NDArray, wide(s), wide(b), 2, epsilon)
        }
      })
  })
})
