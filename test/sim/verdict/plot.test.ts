import { describe, expect, it } from 'vitest'
import { plot } from '../../../src/sim/verdict/plot.js'

describe('a plot in characters', () => {
  it('puts decades at even distances and later series on top', () => {
    const lines = plot(
      [
        {
          mark: '.',
          points: [
            [0, 1],
            [10, 1e-3]
          ]
        },
        {
          mark: '*',
          points: [
            [0, 1],
            [5, 0.03]
          ]
        }
      ],
      { width: 11, height: 4, xLabel: (x) => `${x} s` }
    )
    expect(lines).toEqual([
      '  1e+0 |*',
      '       |',
      '       |     *',
      '  1e-3 |          .',
      '       +-----------',
      '        0 s    10 s'
    ])
  })

  it('leaves out what has no logarithm, and draws nothing of nothing', () => {
    expect(
      plot(
        [
          {
            mark: '*',
            points: [
              [1, 0],
              [2, -3]
            ]
          }
        ],
        { xLabel: String }
      )
    ).toEqual([])
    expect(
      plot(
        [
          {
            mark: '*',
            points: [
              [1, 0],
              [2, 5]
            ]
          }
        ],
        { height: 2, xLabel: String }
      )[0]
    ).toContain('*')
  })
})
