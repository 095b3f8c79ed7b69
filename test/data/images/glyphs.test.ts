import { describe, expect, it } from 'vitest'
import { seededRng } from '../../../src/base/rng.js'
import { sha256Hex } from '../../../src/base/bytes.js'
import type { GlyphName } from '../../../src/data/images/glyph-shapes.js'
import { DIGITS, glyphShape, LETTERS } from '../../../src/data/images/glyph-shapes.js'
import {
  DEFAULT_GLYPH_STYLE,
  drawExamples,
  drawGlyph,
  GLYPH_SIDE,
  type GlyphStyle
} from '../../../src/data/images/glyphs.js'
import { openDataset } from '../../../src/data/source.js'

const ALL = [...DIGITS, ...LETTERS]
const model = { inputs: [{ name: 'pixel_values', shape: ['batch', 1, 28, 28] }] }
const task = { kind: 'image-classification', labels: LETTERS } as const

/** Every range a single point: the glyph as it stands in the table. */
const PLAIN: GlyphStyle = {
  box: [14, 18],
  scale: [1, 1],
  slant: 0,
  turn: 0,
  shift: 0,
  jitter: 0,
  pen: [3, 3],
  ink: [0.5, 0.5],
  noise: [0, 0]
}

describe('drawn glyphs', () => {
  it('cover a pixel by its distance to the stroke, in closed form', () => {
    // The stem of T runs down the middle (x = 14) with a pen of 3: full ink to 1 from it, none from 2 on.
    const image = drawGlyph('T', seededRng('any'), PLAIN)
    const row = Array.from(image.slice(16 * GLYPH_SIDE, 17 * GLYPH_SIDE))
    expect(row.slice(10, 18)).toEqual([0, 0, 0.25, 0.5, 0.5, 0.25, 0, 0])
    // The stem ends at y = 23: pixel centre 23.5 is 0.5 from it and sqrt(0.5) aside, 24.5 is 1.5 below.
    const below = Math.fround(0.5 * (2 - Math.sqrt(0.25 + 1.5 ** 2)))
    expect(image[24 * GLYPH_SIDE + 13]).toBeCloseTo(below, 6)
  })

  it('bend along true ellipses', () => {
    // O fills the box: pixels on the ellipse x = 14 + 7 cos, y = 14 + 9 sin are inked, its middle is not.
    const image = drawGlyph('O', seededRng('any'), PLAIN)
    for (let i = 0; i < 64; i++) {
      const angle = (2 * Math.PI * i) / 64
      const column = Math.floor(14 + 7 * Math.cos(angle))
      const row = Math.floor(14 + 9 * Math.sin(angle))
      expect(image[row * GLYPH_SIDE + column], `at ${i}`).toBe(0.5)
    }
    expect(image[14 * GLYPH_SIDE + 14]).toBe(0)
  })

  it('keep their length when they turn', () => {
    // A pen of 3 on a stem of 18 inks about 54 + (a half disc at each end) whatever the angle.
    const inked = (turn: number) =>
      drawGlyph('T', seededRng('turn', turn), { ...PLAIN, turn, ink: [1, 1] }).reduce((sum, pixel) => sum + pixel, 0)
    for (const turn of [0.1, 0.3]) expect(Math.abs(inked(turn) / inked(0) - 1)).toBeLessThan(0.02)
  })

  it('move a joint as a whole: strokes that meet share the point', () => {
    for (const name of ALL) {
      const { points, pieces } = glyphShape(name)
      const pairs = Array.from({ length: points.length / 2 }, (_, i) => `${points[2 * i]},${points[2 * i + 1]}`)
      expect(new Set(pairs).size).toBe(pairs.length)
      for (const { from, to, corner = 0 } of pieces)
        for (const index of [from, to, corner]) expect(index).toBeLessThan(pairs.length)
    }
  })

  it('are the same bits for the same seed on every machine', () => {
    const hash = sha256Hex(
      Buffer.concat(ALL.map((name) => Buffer.from(drawGlyph(name, seededRng('golden', name)).buffer)))
    )
    expect(hash).toBe('70e18df2a9c34263849368d6bc1fa9d1ebbea2f6eace8b1bac03053e9e6c364b')
    expect(drawGlyph('A', seededRng('a'))).not.toEqual(drawGlyph('A', seededRng('b')))
  })

  it('are told apart: a nearest-neighbour reader knows every class', () => {
    const style: GlyphStyle = { ...DEFAULT_GLYPH_STYLE, slant: 0.15, turn: 0.05, shift: 1, scale: [0.9, 1.05] }
    const draw = (name: GlyphName, i: number) => drawGlyph(name, seededRng('neighbour', name, i), style)
    const known = ALL.flatMap((name) => Array.from({ length: 40 }, (_, i) => ({ name, image: draw(name, i) })))
    const distance = (a: Float32Array, b: Float32Array) => {
      let sum = 0
      for (let i = 0; i < a.length; i++) sum += (a[i]! - b[i]!) ** 2
      return sum
    }
    const wrong = new Map<string, number>()
    for (const name of ALL)
      for (let i = 40; i < 50; i++) {
        const image = draw(name, i)
        const distances = known.map((each) => distance(each.image, image))
        const nearest = known[distances.indexOf(Math.min(...distances))]!
        if (nearest.name !== name) wrong.set(name, (wrong.get(name) ?? 0) + 1)
      }
    expect([...wrong].filter(([, errors]) => errors > 4)).toEqual([])
    expect([...wrong.values()].reduce((a, b) => a + b, 0)).toBeLessThan(ALL.length)
  })
})

describe('a glyph dataset', () => {
  it('trains on its own classes and is tested on all, the same on every peer', async () => {
    const open = (classes: readonly string[], seed: string) =>
      openDataset({ kind: 'glyphs', classes, samples: 12, seed, testSamples: 52 }, task, model)
    const [one, other] = [await open(['C', 'K', 'A'], 'x'), await open(['B'], 'y')]
    expect(one.size).toBe(12)
    expect([...one.batches(12).next().labels.data].toSorted((a, b) => a - b)).toEqual([
      0, 0, 0, 0, 2, 2, 2, 2, 10, 10, 10, 10
    ])
    expect([...one.evaluation(52)]).toEqual([...other.evaluation(52)])
    expect([...one.evaluation(52)][0]!.labels.data).toEqual(Int32Array.from({ length: 52 }, (_, i) => i % 26))
  })

  it('draws an example from seed, class and place alone', () => {
    const [long, short] = [drawExamples(['A', 'B'], LETTERS, 6, 's'), drawExamples(['A', 'B'], LETTERS, 3, 's')]
    expect(long.slice(0, 3)).toEqual(short)
    expect(drawExamples(['A', 'B'], LETTERS, 3, 't')).not.toEqual(short)
  })

  it('refuses classes that are not drawn, or not in the task', async () => {
    const open = (classes: readonly string[], samples = 1) =>
      openDataset({ kind: 'glyphs', classes, samples, seed: 's', testSamples: 0 }, task, model)
    await expect(open(['a'])).rejects.toMatchObject({ code: 'data/unknown-class', facts: { got: 'a' } })
    await expect(open(['7'])).rejects.toMatchObject({ code: 'data/unknown-class' })
    await expect(open([])).rejects.toMatchObject({ code: 'data/empty' })
    await expect(open(['A'], 1e6)).rejects.toMatchObject({ code: 'data/too-many-images' })
  })

  it('joins the data of several peers, for a baseline that has it all', async () => {
    const part = (classes: readonly string[], seed: string) =>
      ({ kind: 'glyphs', classes, samples: 4, seed, testSamples: 26 }) as const
    const parts = [part(['A', 'B'], 'x'), part(['C'], 'y')]
    const all = await openDataset({ kind: 'union', parts, seed: 's' }, task, model)
    expect(all.size).toBe(8)
    expect([...all.batches(8).next().labels.data].toSorted()).toEqual([0, 0, 1, 1, 2, 2, 2, 2])
    const [first] = [...(await openDataset(parts[0]!, task, model)).evaluation(26)]
    expect([...all.evaluation(26)]).toEqual([first])
    await expect(openDataset({ kind: 'union', parts: [], seed: 's' }, task, model)).rejects.toMatchObject({
      code: 'data/mixed-union'
    })
  })
})
