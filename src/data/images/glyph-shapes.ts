/**
 * Digits and capital letters as pen strokes on the unit square, y downwards. `M x y` lifts the pen, `L x y` draws a
 * line, `A cx cy x y` a quarter of an ellipse that touches its two sides towards the corner (cx, cy).
 * Look-alikes are told apart the way careful hands do: 0 has a stroke through it, 1 and I feet, 7 a bar.
 */
const STROKES = {
  '0': 'M.5 0 A.1 0 .1 .5 A.1 1 .5 1 A.9 1 .9 .5 A.9 0 .5 0 M.75 .2 L.25 .8',
  '1': 'M.2 .25 L.5 0 L.5 1 M.2 1 L.8 1',
  '2': 'M.05 .28 A.05 0 .5 0 A.95 0 .95 .28 A.95 .45 .6 .6 L0 1 L1 1',
  '3': 'M.05 .15 A.2 0 .5 0 A.9 0 .9 .25 A.9 .48 .45 .48 A.95 .48 .95 .74 A.95 1 .5 1 A.15 1 0 .82',
  '4': 'M.7 1 L.7 0 L0 .68 L1 .68',
  '5': 'M.9 0 L.15 0 L.1 .45 L.45 .4 A.95 .4 .95 .7 A.95 1 .45 1 A.15 1 0 .85',
  '6': 'M.85 .05 A.05 .1 .05 .65 A.05 1 .5 1 A.95 1 .95 .7 A.95 .42 .5 .42 A.1 .42 .05 .65',
  '7': 'M0 0 L1 0 L.35 1 M.3 .5 L.85 .5',
  '8': 'M.5 .47 A.1 .47 .1 .23 A.1 0 .5 0 A.9 0 .9 .23 A.9 .47 .5 .47 A.05 .47 .05 .74 A.05 1 .5 1 A.95 1 .95 .74 A.95 .47 .5 .47',
  '9': 'M.15 .95 A.95 .9 .95 .35 A.95 0 .5 0 A.05 0 .05 .3 A.05 .58 .5 .58 A.9 .58 .95 .35',
  A: 'M0 1 L.5 0 L1 1 M.2 .62 L.8 .62',
  B: 'M0 0 L0 1 L.55 1 A.95 1 .95 .75 A.95 .5 .5 .5 L0 .5 M.5 .5 A.85 .5 .85 .25 A.85 0 .5 0 L0 0',
  C: 'M1 .2 A.9 0 .55 0 A0 0 0 .5 A0 1 .55 1 A.9 1 1 .8',
  D: 'M0 0 L0 1 L.45 1 A1 1 1 .5 A1 0 .45 0 L0 0',
  E: 'M1 0 L0 0 L0 1 L1 1 M0 .5 L.75 .5',
  F: 'M1 0 L0 0 L0 1 M0 .5 L.75 .5',
  G: 'M1 .2 A.9 0 .55 0 A0 0 0 .5 A0 1 .55 1 A1 1 1 .55 L.55 .55',
  H: 'M0 0 L0 1 M1 0 L1 1 M0 .5 L1 .5',
  I: 'M.5 0 L.5 1 M.15 0 L.85 0 M.15 1 L.85 1',
  J: 'M.4 0 L1 0 M.75 0 L.75 .7 A.75 1 .4 1 A.05 1 .05 .7',
  K: 'M0 0 L0 1 M.95 0 L0 .55 M.35 .35 L1 1',
  L: 'M0 0 L0 1 L.95 1',
  M: 'M0 1 L0 0 L.5 .6 L1 0 L1 1',
  N: 'M0 1 L0 0 L1 1 L1 0',
  O: 'M.5 0 A0 0 0 .5 A0 1 .5 1 A1 1 1 .5 A1 0 .5 0',
  P: 'M0 1 L0 0 L.55 0 A1 0 1 .27 A1 .54 .55 .54 L0 .54',
  Q: 'M.5 0 A0 0 0 .5 A0 1 .5 1 A1 1 1 .5 A1 0 .5 0 M.6 .65 L1.05 1.05',
  R: 'M0 1 L0 0 L.55 0 A1 0 1 .27 A1 .54 .5 .54 L0 .54 M.5 .54 L1 1',
  S: 'M.95 .18 A.85 0 .5 0 A.05 0 .05 .25 A.05 .5 .5 .5 A.95 .5 .95 .75 A.95 1 .5 1 A.1 1 .05 .82',
  T: 'M0 0 L1 0 M.5 0 L.5 1',
  U: 'M0 0 L0 .6 A0 1 .5 1 A1 1 1 .6 L1 0',
  V: 'M0 0 L.5 1 L1 0',
  W: 'M0 0 L.25 1 L.5 .35 L.75 1 L1 0',
  X: 'M0 0 L1 1 M1 0 L0 1',
  Y: 'M0 0 L.5 .5 L1 0 M.5 .5 L.5 1',
  Z: 'M0 0 L1 0 L0 1 L1 1'
} as const satisfies Record<string, string>

export type GlyphName = keyof typeof STROKES

export const DIGITS: readonly GlyphName[] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9']
export const LETTERS: readonly GlyphName[] = [...'ABCDEFGHIJKLMNOPQRSTUVWXYZ'] as GlyphName[]

export const isGlyph = (name: string): name is GlyphName => Object.hasOwn(STROKES, name)

/** A piece of a stroke: a line, or a quarter ellipse when it has a corner. Numbers are indices of points. */
export interface GlyphPiece {
  readonly from: number
  readonly corner: number | undefined
  readonly to: number
}

/** A glyph's points, each once however many strokes meet there, so that moving a point moves the joint as a whole. */
export interface GlyphShape {
  /** x0, y0, x1, y1, ... */
  readonly points: readonly number[]
  readonly pieces: readonly GlyphPiece[]
}

const shapes = new Map<GlyphName, GlyphShape>()

export function glyphShape(name: GlyphName): GlyphShape {
  const known = shapes.get(name)
  if (known !== undefined) return known
  const shape = parseStrokes(STROKES[name])
  shapes.set(name, shape)
  return shape
}

function parseStrokes(strokes: string): GlyphShape {
  const points: number[] = []
  const indexOf = (x: number, y: number): number => {
    for (let i = 0; i < points.length; i += 2) if (points[i] === x && points[i + 1] === y) return i / 2
    return points.push(x, y) / 2 - 1
  }
  const pieces: GlyphPiece[] = []
  let pen = 0
  for (const [, command, rest = ''] of strokes.matchAll(/([MLA])([^MLA]*)/g)) {
    const numbers = rest.trim().split(' ').map(Number)
    const to = indexOf(numbers.at(-2)!, numbers.at(-1)!)
    if (command === 'L') pieces.push({ from: pen, corner: undefined, to })
    if (command === 'A') pieces.push({ from: pen, corner: indexOf(numbers[0]!, numbers[1]!), to })
    pen = to
  }
  return { points, pieces }
}
