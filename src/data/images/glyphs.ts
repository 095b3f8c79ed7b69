import { PeertuneError } from '../../base/errors.js'
import type { TaskSpec } from '../../base/federation.js'
import { type Rng, seededRng } from '../../base/rng.js'
import { type Example, imageCollator, imageInputOf, type ModelInputs } from '../batches/collate.js'
import type { DatasetParts } from '../batches/dataset.js'
import { type GlyphName, type GlyphPiece, glyphShape, isGlyph } from './glyph-shapes.js'
import type { GlyphsSpec } from '../spec.js'

/** Pixels along one side of a glyph image. */
export const GLYPH_SIDE = 28
const PIXELS = GLYPH_SIDE * GLYPH_SIDE

/** Images of one data source: 100,000 take 314 MB. */
const MAX_IMAGES = 100_000

/** How far the pen's hand strays. Every figure is the end of a uniform range, in the unit named. */
export interface GlyphStyle {
  /** Nominal width and height of the glyph, pixels. */
  readonly box: readonly [number, number]
  /** Factor on width and on height, each drawn for itself. */
  readonly scale: readonly [number, number]
  /** Horizontal shift of the top against the middle, as a part of half the height, either way. */
  readonly slant: number
  /** Tangent of half the angle of rotation, either way: 0.1 is 11 degrees. */
  readonly turn: number
  /** Shift of the middle, pixels, either way. */
  readonly shift: number
  /** Every point of the glyph strays by this, as a part of the box, either way. */
  readonly jitter: number
  /** Width of the pen, pixels. */
  readonly pen: readonly [number, number]
  /** Darkness of the ink, 0 to 1. */
  readonly ink: readonly [number, number]
  /** Standard deviation of the pixel noise. */
  readonly noise: readonly [number, number]
}

export const DEFAULT_GLYPH_STYLE: GlyphStyle = {
  box: [14, 18],
  scale: [0.75, 1.1],
  slant: 0.35,
  turn: 0.1,
  shift: 2.5,
  jitter: 0.06,
  pen: [1.6, 3.4],
  ink: [0.6, 1],
  noise: [0, 0.12]
}

/** Lines that stand for a quarter of an ellipse. */
const LINES_PER_QUARTER = 6
/** Weight of the corner that makes a rational quadratic Bezier curve an ellipse: cos 45 degrees. */
const CORNER_WEIGHT = Math.SQRT1_2

/**
 * One image: float32[28 * 28], row major, 0 is paper, 1 is ink. A function of the arguments alone, bit for bit the
 * same on every machine: random integers, and only the operations IEEE 754 rounds exactly (+ - * / sqrt).
 */
export function drawGlyph(name: GlyphName, rng: Rng, style: GlyphStyle = DEFAULT_GLYPH_STYLE): Float32Array {
  const { points, pieces } = glyphShape(name)
  const placed = placePoints(points, rng, style)
  const pen = between(rng, style.pen)
  const ink = between(rng, style.ink)
  const noise = between(rng, style.noise)
  const squares = new Float64Array(PIXELS).fill(Number.POSITIVE_INFINITY)
  for (const piece of pieces) drawPiece(squares, placed, piece, pen / 2 + 1)
  const image = new Float32Array(PIXELS)
  for (let i = 0; i < PIXELS; i++) {
    const coverage = clamp01(pen / 2 + 0.5 - Math.sqrt(squares[i]!))
    image[i] = clamp01(ink * coverage + noise * nearlyNormal(rng))
  }
  return image
}

/** Jittered points of the unit square -> pixels: scale, slant, rotate, shift. */
function placePoints(points: readonly number[], rng: Rng, style: GlyphStyle): Float64Array {
  const width = style.box[0] * between(rng, style.scale)
  const height = style.box[1] * between(rng, style.scale)
  const slant = around(rng, style.slant)
  const turn = around(rng, style.turn)
  // The half-angle form of a rotation needs no sine, whose last bit differs between machines.
  const cos = (1 - turn * turn) / (1 + turn * turn)
  const sin = (2 * turn) / (1 + turn * turn)
  const middleX = GLYPH_SIDE / 2 + around(rng, style.shift)
  const middleY = GLYPH_SIDE / 2 + around(rng, style.shift)
  const placed = new Float64Array(points.length)
  for (let i = 0; i < points.length; i += 2) {
    const y = height * (points[i + 1]! - 0.5 + around(rng, style.jitter))
    const x = width * (points[i]! - 0.5 + around(rng, style.jitter)) - slant * y
    placed[i] = middleX + cos * x - sin * y
    placed[i + 1] = middleY + sin * x + cos * y
  }
  return placed
}

function drawPiece(squares: Float64Array, points: Float64Array, piece: GlyphPiece, reach: number): void {
  const [x0, y0] = [points[2 * piece.from]!, points[2 * piece.from + 1]!]
  const [x1, y1] = [points[2 * piece.to]!, points[2 * piece.to + 1]!]
  if (piece.corner === undefined) {
    drawLine(squares, x0, y0, x1, y1, reach)
    return
  }
  const [cx, cy] = [points[2 * piece.corner]!, points[2 * piece.corner + 1]!]
  let [px, py] = [x0, y0]
  for (let step = 1; step <= LINES_PER_QUARTER; step++) {
    const t = step / LINES_PER_QUARTER
    const [a, b, c] = [(1 - t) * (1 - t), 2 * CORNER_WEIGHT * t * (1 - t), t * t]
    const x = (a * x0 + b * cx + c * x1) / (a + b + c)
    const y = (a * y0 + b * cy + c * y1) / (a + b + c)
    drawLine(squares, px, py, x, y, reach)
    px = x
    py = y
  }
}

/** Lowers each pixel's squared distance to the nearest stroke, where the line comes within `reach` of its centre. */
function drawLine(squares: Float64Array, x0: number, y0: number, x1: number, y1: number, reach: number): void {
  const [dx, dy] = [x1 - x0, y1 - y0]
  const length2 = dx * dx + dy * dy
  const left = firstPixel(Math.min(x0, x1) - reach)
  const right = lastPixel(Math.max(x0, x1) + reach)
  const bottom = lastPixel(Math.max(y0, y1) + reach)
  for (let row = firstPixel(Math.min(y0, y1) - reach); row <= bottom; row++) {
    const py = row + 0.5 - y0
    for (let column = left; column <= right; column++) {
      const px = column + 0.5 - x0
      const along = length2 === 0 ? 0 : clamp01((px * dx + py * dy) / length2)
      const [ex, ey] = [px - along * dx, py - along * dy]
      const square = ex * ex + ey * ey
      const at = row * GLYPH_SIDE + column
      if (square < squares[at]!) squares[at] = square
    }
  }
}

const firstPixel = (edge: number): number => Math.max(0, Math.floor(edge - 0.5))
const lastPixel = (edge: number): number => Math.min(GLYPH_SIDE - 1, Math.ceil(edge - 0.5))
const clamp01 = (x: number): number => Math.min(1, Math.max(0, x))
const between = (rng: Rng, [low, high]: readonly [number, number]): number => low + (high - low) * rng.uniform()
const around = (rng: Rng, reach: number): number => reach * (2 * rng.uniform() - 1)

/** The sum of four bytes, centred and scaled to variance 1: near enough to normal, with exact arithmetic. */
function nearlyNormal(rng: Rng): number {
  const bits = rng.uint32()
  const sum = (bits & 255) + ((bits >>> 8) & 255) + ((bits >>> 16) & 255) + (bits >>> 24)
  return (sum - 510) / FOUR_BYTES_DEVIATION
}
/** Standard deviation of the sum of four uniform bytes: sqrt(4 (256^2 - 1) / 12). */
const FOUR_BYTES_DEVIATION = Math.sqrt(65_535 / 3)

/**
 * `count` examples, the classes in turn; the label is the place of the class in `labels`. Example i is a function of
 * (seed, class, i) alone. Throws `data/unknown-class`, `data/too-many-images`.
 */
export function drawExamples(
  classes: readonly string[],
  labels: readonly string[],
  count: number,
  seed: string
): Example[] {
  const names = classes.map((name) => checkClass(name, labels))
  if (count > MAX_IMAGES)
    throw new PeertuneError('data/too-many-images', `${count} images are more than memory should hold`, {
      facts: { got: count, expected: `at most ${MAX_IMAGES}` },
      hint: 'lower samples or testSamples'
    })
  if (names.length === 0) return []
  return Array.from({ length: count }, (_, i) => {
    const name = names[i % names.length]!
    return { values: drawGlyph(name, seededRng('glyph', seed, name, i)), label: labels.indexOf(name) }
  })
}

/** A peer's drawn images, and held-out ones over all labels of the task. Throws as `drawExamples` does. */
export function readGlyphs(
  spec: GlyphsSpec,
  task: Extract<TaskSpec, { kind: 'image-classification' }>,
  model: ModelInputs
): DatasetParts {
  const shape = [1, GLYPH_SIDE, GLYPH_SIDE] as const
  return {
    training: drawExamples(spec.classes, task.labels, spec.samples, `train/${spec.seed}`),
    heldOut: drawExamples(task.labels, task.labels, spec.testSamples, `test/${spec.testSeed ?? 'test'}`),
    seed: spec.seed,
    collate: imageCollator(imageInputOf(model, shape), shape)
  }
}

function checkClass(name: string, labels: readonly string[]): GlyphName {
  if (isGlyph(name) && labels.includes(name)) return name
  const reason = isGlyph(name) ? 'is not a label of the task' : 'is no glyph'
  throw new PeertuneError('data/unknown-class', `class ${name} ${reason}`, {
    facts: { got: name, expected: isGlyph(name) ? [...labels] : 'a digit or a capital letter' },
    hint: 'glyphs are digits and capital letters; those of a peer must be among the labels of the task'
  })
}
