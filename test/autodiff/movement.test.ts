import { describe, it } from 'vitest'
import { checkGradients, int, ints, random } from './gradient-check.js'
import { broadcast, build, concat, gather, nd, type NDArray, slice, transpose } from './reference.js'

const x = random([2, 3, 4])
const as =
  (...shape: number[]) =>
  (value?: NDArray): NDArray =>
    nd(shape, (value as NDArray).data)

describe('shape changes', () => {
  it('Reshape with -1 and 0', () =>
    checkGradients({ op: 'Reshape', inputs: [x, { ints: [0, -1] }], forward: as(2, 12) }))
  it('Flatten', () => checkGradients({ op: 'Flatten', attributes: { axis: int(2) }, inputs: [x], forward: as(6, 4) }))
  it('Squeeze', () => checkGradients({ op: 'Squeeze', inputs: [random([2, 1, 3]), { ints: [-2] }], forward: as(2, 3) }))
  it('Unsqueeze', () => checkGradients({ op: 'Unsqueeze', inputs: [x, { ints: [0, -1] }], forward: as(1, 2, 3, 4, 1) }))
  it('Expand along new and unit axes', () =>
    checkGradients({
      op: 'Expand',
      inputs: [random([3, 1]), { ints: [2, 1, 4] }],
      forward: (v) => broadcast([v as NDArray, nd([2, 1, 4], Array(8).fill(0))], (a = 0) => a)
    }))
  it('Transpose of unequal axes, and without a permutation', async () => {
    await checkGradients({
      op: 'Transpose',
      attributes: { perm: ints(2, 0, 3, 1) },
      inputs: [random([2, 3, 4, 5])],
      forward: (v) => transpose(v as NDArray, [2, 0, 3, 1])
    })
    await checkGradients({ op: 'Transpose', inputs: [x], forward: (v) => transpose(v as NDArray, [2, 1, 0]) })
  })
})

describe('joining and cutting', () => {
  it('Concat along a middle axis', () =>
    checkGradients({
      op: 'Concat',
      attributes: { axis: int(-2) },
      inputs: [x, random([2, 1, 4]), random([2, 2, 4])],
      forward: (...parts) => concat(parts, 1)
    }))
  it('Split in unequal parts', () =>
    checkGradients({
      op: 'Split',
      attributes: { axis: int(-1) },
      inputs: [x, { ints: [1, 3] }],
      forward: (v) => [slice(v as NDArray, [0, 0, 0], [2, 3, 1]), slice(v as NDArray, [0, 0, 1], [2, 3, 4])]
    }))
  it('Slice on two axes, negative bounds, an end beyond the end', () =>
    checkGradients({
      op: 'Slice',
      inputs: [x, { ints: [-3, 1] }, { ints: [-1, 99] }, { ints: [2, 1] }],
      forward: (v) => slice(v as NDArray, [0, 1, 1], [2, 3, 3])
    }))
  it('Slice with steps of one and all axes', () =>
    checkGradients({
      op: 'Slice',
      inputs: [x, { ints: [1, 0, 2] }, { ints: [2, 3, 3] }, { ints: [0, 1, 2] }, { ints: [1, 1, 1] }],
      forward: (v) => slice(v as NDArray, [1, 0, 2], [2, 3, 3])
    }))
  it('Pad', () =>
    checkGradients({
      op: 'Pad',
      inputs: [random([2, 3]), { ints: [0, 2, 1, 0] }],
      forward: (v) =>
        build([3, 5], ([i = 0, j = 0]) => (i < 2 && j >= 2 ? ((v as NDArray).data[i * 3 + j - 2] ?? 0) : 0))
    }))
})

describe('picking', () => {
  for (const [name, indices, shape, axis] of [
    ['a row by a scalar', [1], [], 1],
    ['a run of neighbours', [1, 2], [2], 2],
    ['rows, one of them twice, the last by -1', [2, 0, 2, -1], [2, 2], 1],
    ['an embedding table', [1, 0, 1], [3], 0]
  ] as const)
    it(`Gather: ${name}`, () =>
      checkGradients({
        op: 'Gather',
        attributes: { axis: int(axis) },
        inputs: [x, { ints: indices, shape }],
        forward: (v) => gather(v as NDArray, nd(shape, indices), axis)
      }))

  it('GatherElements with an index used twice', () =>
    checkGradients({
      op: 'GatherElements',
      attributes: { axis: int(1) },
      inputs: [random([2, 3]), { ints: [2, 2, 0, 1], shape: [2, 2] }],
      forward: (v) => {
        const { data } = v as NDArray
        return nd([2, 2], [data[2] ?? 0, data[2] ?? 0, data[3] ?? 0, data[4] ?? 0])
      }
    }))

  it('GatherND of rows', () =>
    checkGradients({
      op: 'GatherND',
      inputs: [x, { ints: [0, 2, 1, 0, 0, 2], shape: [3, 2] }],
      forward: (v) => {
        const { data } = v as NDArray
        return nd([3, 4], [...data.slice(8, 12), ...data.slice(12, 16), ...data.slice(8, 12)])
      }
    }))
})
