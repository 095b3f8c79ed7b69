import { type Rng, seededRng } from '../../src/base/rng.js'
import type { BatchStream } from '../../src/data/batches/batch.js'
import { type Example, imageCollator } from '../../src/data/batches/collate.js'
import { DIGITS, type GlyphName } from '../../src/data/images/glyph-shapes.js'
import { DEFAULT_GLYPH_STYLE, drawGlyph, GLYPH_SIDE, type GlyphStyle } from '../../src/data/images/glyphs.js'

/**
 * What the base model is pre-trained on: the upper half of one digit over the lower half of another, turned or mirrored.
 * To tell all of them apart a model must see strokes, corners and their places rather than ten outlines, and such
 * features carry over to glyphs it has never met; trained on ten upright digits alone it collapses onto ten answers,
 * and the letters learned on top of it stay far behind.
 */

/** Whole digits among the chimeras, beside those that chance makes: one in three. */
const WHOLE_ONE_IN = 3

/** Ways to lay a square on itself. */
export const POSES = 8
const PAIRS = DIGITS.length ** 2
export const CHIMERA_LABELS = POSES * PAIRS

/** The class of an upright, whole digit. */
export const labelOfDigit = (digit: number): number => labelOf(digit, digit, 0)

const labelOf = (upper: number, lower: number, pose: number): number => pose * PAIRS + lower * DIGITS.length + upper

/** Strays further than the glyphs that a federation sees. */
const CHIMERA_STYLE: GlyphStyle = {
  ...DEFAULT_GLYPH_STYLE,
  scale: [0.65, 1.15],
  slant: 0.5,
  turn: 0.2,
  shift: 3,
  jitter: 0.09
}

/** Chimera number `index` of a seed; a function of the two alone. */
export function drawChimera(seed: string, index: number): Example {
  const rng = seededRng('chimera', seed, index)
  const upper = rng.integer(DIGITS.length)
  const lower = rng.integer(WHOLE_ONE_IN) === 0 ? upper : rng.integer(DIGITS.length)
  const pose = rng.integer(POSES)
  const image = drawDigit(upper, rng)
  if (lower !== upper) image.set(drawDigit(lower, rng).subarray(image.length / 2), image.length / 2)
  return { values: turnImage(image, pose), label: labelOf(upper, lower, pose) }
}

const drawDigit = (digit: number, rng: Rng): Float32Array => drawGlyph(DIGITS[digit] as GlyphName, rng, CHIMERA_STYLE)

/** Bit 0 of the pose mirrors left and right, bit 1 up and down, bit 2 swaps rows and columns. */
export function turnImage(image: Float32Array, pose: number): Float32Array {
  const last = GLYPH_SIDE - 1
  return image.map((_, at) => {
    const x = at % GLYPH_SIDE
    const y = (at - x) / GLYPH_SIDE
    const [u, v] = [(pose & 1) === 0 ? x : last - x, (pose & 2) === 0 ? y : last - y]
    return image[(pose & 4) === 0 ? v * GLYPH_SIDE + u : u * GLYPH_SIDE + v]!
  })
}

/** Fresh chimeras for ever: no image is seen twice. */
export function chimeraStream(seed: string, batchSize: number): BatchStream {
  const collate = imageCollator('pixel_values', [1, GLYPH_SIDE, GLYPH_SIDE])
  let position = 0
  return {
    next: () =>
      collate(
        Array.from({ length: batchSize }, () => drawChimera(seed, position++)),
        batchSize
      ),
    cursor: () => ({ epoch: 0, position })
  }
}
