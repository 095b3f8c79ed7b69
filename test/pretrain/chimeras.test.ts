import { describe, expect, it } from 'vitest'
import {
  CHIMERA_LABELS,
  chimeraStream,
  drawChimera,
  labelOfDigit,
  POSES,
  turnImage
} from '../../scripts/pretrain/chimeras.js'

const SIDE = 28

describe('chimeras', () => {
  it('turn and mirror in eight different ways, each undone by one of them', () => {
    const image = Float32Array.from({ length: SIDE * SIDE }, (_, i) => i)
    const turned = Array.from({ length: POSES }, (_, pose) => turnImage(image, pose))
    expect(new Set(turned.map((each) => each.join())).size).toBe(POSES)
    expect(turned[0]).toEqual(image)
    // Swapping rows and columns puts pixel (row 2, column 5) at (row 5, column 2).
    expect(turned[4]![5 * SIDE + 2]).toBe(image[2 * SIDE + 5])
    for (const each of turned)
      expect(turned.some((_, pose) => turnImage(each, pose).join() === image.join())).toBe(true)
  })

  it('are a function of seed and place, four in ten of them whole digits', () => {
    const drawn = Array.from({ length: 600 }, (_, i) => drawChimera('s', i))
    expect(drawChimera('s', 17)).toEqual(drawn[17])
    expect(drawChimera('t', 17)).not.toEqual(drawn[17])
    for (const { label } of drawn) expect(label).toBeLessThan(CHIMERA_LABELS)
    // 1/3 + 2/3 * 1/10 = 0.4, within four standard errors of 600 draws.
    expect(Math.abs(drawn.filter(({ label }) => (label % 100) % 11 === 0).length / 600 - 0.4)).toBeLessThan(0.08)
    expect([0, 7, 9].map(labelOfDigit)).toEqual([0, 77, 99])
  })

  it('stream without end, always full and never twice', () => {
    const stream = chimeraStream('s', 5)
    const [first, second] = [stream.next(), stream.next()]
    expect(first.inputs.pixel_values!.shape).toEqual([5, 1, SIDE, SIDE])
    expect(first).not.toEqual(second)
    expect(stream.cursor().position).toBe(10)
  })
})
