import { describe, it } from 'vitest'
import { checkGradients, int, ints, random, text } from './gradient-check.js'
import { at, broadcast, build, concat, gather, nd, type NDArray, slice, transpose } from './reference.js'

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
  it.each([
    ['every second row', [0, 1], [99, 4], [1, 2], [2, 2], ([i = 0, j = 0, k = 0]) => [i, 2 * j, 1 + 2 * k], [2, 2, 2]],
    ['backwards', [-1], [-99], [2], [-1], ([i = 0, j = 0, k = 0]) => [i, j, 3 - k], [2, 3, 4]],
    [
      'backwards in steps of two, beside a plain cut',
      [3, 1],
      [0, 3],
      [2, 1],
      [-2, 1],
      ([i = 0, j = 0, k = 0]) => [i, 1 + j, 3 - 2 * k],
      [2, 2, 2]
    ]
  ] as [string, number[], number[], number[], number[], (index: number[]) => number[], number[]][])(
    'Slice %s',
    (_name, starts, ends, axes, steps, source, shape) =>
      checkGradients({
        op: 'Slice',
        inputs: [x, { ints: starts }, { ints: ends }, { ints: axes }, { ints: steps }],
        forward: (v) => build(shape, (index) => at(v as NDArray, source(index)))
      })
  )
  it('Tile', () =>
    checkGradients({
      op: 'Tile',
      inputs: [x, { ints: [2, 1, 3] }],
      forward: (v) => build([4, 3, 12], ([i = 0, j = 0, k = 0]) => at(v as NDArray, [i % 2, j, k % 4]))
    }))
  it.each([
    [1, 1],
    [0, -1],
    [1, -1],
    [0, 2]
  ])('Trilu, upper %i, diagonal %i', (upper, k) =>
    checkGradients({
      op: 'Trilu',
      attributes: { upper: int(upper) },
      inputs: [x, { ints: [k], shape: [] }],
      forward: (v) =>
        build([2, 3, 4], (index) => {
          const [, row = 0, column = 0] = index
          return (upper ? column - row >= k : column - row <= k) ? at(v as NDArray, index) : 0
        })
    })
  )
  it.each([
    [0, 0],
    [1, 0],
    [0, 1],
    [1, 1]
  ])('CumSum, reverse %i, exclusive %i', (reverse, exclusive) =>
    checkGradients({
      op: 'CumSum',
      attributes: { reverse: int(reverse), exclusive: int(exclusive) },
      inputs: [x, { ints: [1], shape: [] }],
      forward: (v) =>
        build([2, 3, 4], ([i = 0, j = 0, k = 0]) => {
          const counts = (other: number): boolean => (other === j ? !exclusive : reverse ? other > j : other < j)
          return [0, 1, 2].filter(counts).reduce((total, other) => total + at(v as NDArray, [i, other, k]), 0)
        })
    })
  )
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

  it('GatherND by batch, an index used twice', () =>
    checkGradients({
      op: 'GatherND',
      attributes: { batch_dims: int(1) },
      inputs: [x, { ints: [2, 0, 2, 2, 1, 1], shape: [2, 3, 1] }],
      forward: (v) => {
        const rows = [
          [2, 0, 2],
          [2, 1, 1]
        ]
        return build([2, 3, 4], ([i = 0, j = 0, k = 0]) => at(v as NDArray, [i, rows[i]?.[j] ?? 0, k]))
      }
    }))
  it('GatherND by two batch axes', () =>
    checkGradients({
      op: 'GatherND',
      attributes: { batch_dims: int(2) },
      inputs: [x, { ints: [3, 0, 1, 1, 2, 0], shape: [2, 3, 1] }],
      forward: (v) => build([2, 3], ([i = 0, j = 0]) => at(v as NDArray, [i, j, [3, 0, 1, 1, 2, 0][3 * i + j] ?? 0]))
    }))

  it.each(['none', 'add'])('ScatterND, reduction %s', (reduction) =>
    checkGradients({
      op: 'ScatterND',
      attributes: { reduction: text(reduction) },
      inputs: [x, { ints: [0, 2, 1, 0], shape: [2, 2] }, random([2, 4], { seed: 'updates' })],
      forward: (v, u) =>
        build([2, 3, 4], (index) => {
          const [i = 0, j = 0, k = 0] = index
          const row = [
            [0, 2],
            [1, 0]
          ].findIndex(([a, b]) => a === i && b === j)
          const old = at(v as NDArray, index)
          return row < 0 ? old : at(u as NDArray, [row, k]) + (reduction === 'add' ? old : 0)
        })
    })
  )
  it.each(['none', 'add'])('ScatterElements, reduction %s', (reduction) =>
    checkGradients({
      op: 'ScatterElements',
      attributes: { axis: int(1), reduction: text(reduction) },
      inputs: [random([2, 4]), { ints: [3, 0, 1, 2], shape: [2, 2] }, random([2, 2], { seed: 'updates' })],
      forward: (v, u) =>
        build([2, 4], (index) => {
          const [i = 0, j = 0] = index
          const column = (i === 0 ? [3, 0] : [1, 2]).indexOf(j)
          const old = at(v as NDArray, index)
          return column < 0 ? old : at(u as NDArray, [i, column]) + (reduction === 'add' ? old : 0)
        })
    })
  )
  it('TopK: the values', () =>
    checkGradients({
      op: 'TopK',
      attributes: { axis: int(1) },
      inputs: [random([2, 5, 3]), { ints: [2] }],
      forward: (v) =>
        build([2, 2, 3], ([i = 0, j = 0, k = 0]) => {
          const column = [0, 1, 2, 3, 4].map((row) => at(v as NDArray, [i, row, k])).sort((a, b) => b - a)
          return column[j] as number
        })
    }))
})
