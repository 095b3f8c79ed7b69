import { type Build, given, numberOf, type Lowering, unsupported } from '../graph/lowering.js'

interface Rotation {
  readonly cos: string
  readonly sin: string
  /** Features that turn, counted from the first; the others pass. */
  readonly rotated: number
}

interface RotateOptions extends Rotation {
  /** Shape of x, features last. */
  readonly shape: readonly number[]
  /** Pairs are neighbours; otherwise they lie half the rotated features apart. */
  readonly interleaved: boolean
}

/**
 * Rotary position embedding (Su et al. 2021, https://arxiv.org/abs/2104.09864): pairs (a, b) of features become
 * (a cos - b sin, b cos + a sin). cos and sin broadcast against x without its last axis' second half.
 */
export function rotate(build: Build, x: string, { cos, sin, rotated, shape, interleaved }: RotateOptions): string {
  const size = shape.at(-1) as number
  const [turning = x, ...rest] = rotated === size ? [x] : build.split(x, [rotated, size - rotated], -1)
  const outer = shape.slice(0, -1)
  const turned = interleaved
    ? rotateNeighbours(build, turning, { cos, sin, outer, half: rotated / 2 })
    : rotateHalves(build, turning, { cos, sin, half: rotated / 2 })
  return build.concat([turned, ...rest], -1)
}

interface Pairs {
  readonly cos: string
  readonly sin: string
  readonly half: number
}

function rotateHalves(build: Build, x: string, { cos, sin, half }: Pairs): string {
  const [a = '', b = ''] = build.split(x, [half, half], -1)
  return build.concat(turn(build, [a, b], { cos, sin }), -1)
}

function rotateNeighbours(
  build: Build,
  x: string,
  { outer, half, cos, sin }: Pairs & { outer: readonly number[] }
): string {
  const [a = '', b = ''] = build
    .split(build.reshape(x, [...outer, half, 2]), [1, 1], -1)
    .map((part) => build.reshape(part, [...outer, half]))
  const pairs = turn(build, [a, b], { cos, sin }).map((part) => build.reshape(part, [...outer, half, 1]))
  return build.reshape(build.concat(pairs, -1), [...outer, 2 * half])
}

const turn = (build: Build, [a, b]: readonly [string, string], { cos, sin }: Omit<Pairs, 'half'>): string[] => [
  build.sub(build.mul(a, cos), build.mul(b, sin)),
  build.add(build.mul(b, cos), build.mul(a, sin))
]

interface TableOptions {
  /** [positions, half], or, without `positions`, [batch, length, half]. */
  readonly cos: string
  readonly sin: string
  /** int64[batch, length], or [1] where the first row starts; '' counts from 0 in a table by position. */
  readonly positions: string
  readonly length: number
  /** Axes of the tables among those of x. */
  readonly axes: (batch: number, length: number, half: number) => readonly number[]
}

/** cos and sin of every position in the sequence, ready to multiply half of x with. */
export function rotaryTables(build: Build, { cos, sin, positions, length, axes }: TableOptions): Rotation {
  const { context } = build
  const half = context.shapeOf(cos).at(-1) as number
  if (context.shapeOf(cos).length === 3) {
    const batch = context.shapeOf(cos)[0] as number
    const shaped = (table: string): string => build.reshape(table, axes(batch, length, half))
    return { cos: shaped(cos), sin: shaped(sin), rotated: 2 * half }
  }
  const counted = context.ints(Array.from({ length }, (_, index) => index))
  const isTable = given(positions) && context.shapeOf(positions).length === 2
  const rows = isTable ? positions : given(positions) ? build.add(counted, positions) : counted
  const batch = isTable ? (context.shapeOf(positions)[0] as number) : 1
  const picked = (table: string): string => build.reshape(build.gather(table, rows), axes(batch, length, half))
  return { cos: picked(cos), sin: picked(sin), rotated: 2 * half }
}

/**
 * RotaryEmbedding of ONNX (x, cos, sin, positions) and of com.microsoft (x, positions, cos, sin): x [batch, heads,
 * length, size] or [batch, length, heads * size].
 */
export const lowerRotaryEmbedding: Lowering = (node, build) => {
  const isContrib = node.domain !== ''
  const [x = '', second = '', third = '', fourth = ''] = node.inputs
  const [cos, sin, positions] = isContrib ? [third, fourth, second] : [second, third, fourth]
  if (numberOf(node, 'is_packed_batching', 0) === 1) throw unsupported(node, 'packed batching')
  const shape = build.context.shapeOf(x)
  const interleaved = numberOf(node, 'interleaved', 0) === 1
  const scale = Number(node.attributes.scale?.value ?? 1)
  if (shape.length === 4) {
    const tables = rotaryTables(build, {
      cos,
      sin,
      positions,
      length: shape[2] as number,
      axes: (b, s, half) => [b, 1, s, half]
    })
    return [build.scale(rotate(build, x, { ...tables, shape, interleaved }), scale)]
  }
  const [batch = 0, length = 0, width = 0] = shape
  const tables = rotaryTables(build, { cos, sin, positions, length, axes: (b, s, half) => [b, s, 1, half] })
  const heads = numberOf(node, 'num_heads', 0) || width / tables.rotated
  const apart = [batch, length, heads, width / heads] as const
  const turned = rotate(build, build.reshape(x, apart), { ...tables, shape: apart, interleaved })
  return [build.scale(build.reshape(turned, shape), scale)]
}
