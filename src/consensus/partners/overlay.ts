import { PeertuneError } from '../../base/errors.js'
import type { Rng } from '../../base/rng.js'

/** Who may talk to whom: `overlay[i]` are the positions of i's neighbours, rising, without i. */
export type Overlay = readonly (readonly number[])[]

export const OVERLAY_KINDS = ['ring', 'torus', 'random-regular', 'exponential', 'complete'] as const
export type OverlayKind = (typeof OVERLAY_KINDS)[number]

/** Draws of a random regular graph before giving up; at degree 6 about one in five is simple and connected. */
const MAX_DRAWS = 10_000

const range = (count: number): number[] => Array.from({ length: count }, (_, i) => i)

/** Undirected: every edge is entered at both ends. */
function fromEdges(size: number, edges: Iterable<readonly [number, number]>): Overlay {
  const neighbours = range(size).map(() => new Set<number>())
  for (const [a, b] of edges) {
    if (a === b) continue
    neighbours[a]!.add(b)
    neighbours[b]!.add(a)
  }
  return neighbours.map((set) => [...set].sort((a, b) => a - b))
}

export const ring = (size: number): Overlay =>
  fromEdges(
    size,
    range(size).map((i) => [i, (i + 1) % size] as const)
  )

/** The squarest grid with `size` places, its borders joined. A prime number of peers makes a ring. */
export function torus(size: number): Overlay {
  const rows = range(Math.floor(Math.sqrt(size)) + 1).findLast((r) => r > 0 && size % r === 0) ?? 1
  const columns = size / rows
  const at = (row: number, column: number) => (row % rows) * columns + (column % columns)
  return fromEdges(
    size,
    range(size).flatMap((i) => {
      const [row, column] = [Math.floor(i / columns), i % columns]
      return [[i, at(row + 1, column)] as const, [i, at(row, column + 1)] as const]
    })
  )
}

/** Neighbours at distances 1, 2, 4, ... both ways around (Ying et al. 2021, https://arxiv.org/abs/2110.13363). */
export const exponential = (size: number): Overlay =>
  fromEdges(
    size,
    range(size).flatMap((i) => range(Math.ceil(Math.log2(size))).map((k) => [i, (i + 2 ** k) % size] as const))
  )

export const complete = (size: number): Overlay => range(size).map((i) => range(size).filter((j) => j !== i))

export function isConnected(overlay: Overlay): boolean {
  const reached = new Set([0])
  for (const at of reached) for (const next of overlay[at] ?? []) reached.add(next)
  return reached.size === overlay.length
}

/**
 * Every peer with `degree` neighbours, drawn uniformly from the connected simple graphs of that kind: stubs are paired at
 * random, and what is no such graph is drawn again (configuration model, Bollobas 1980). Dense graphs beyond degree 6
 * are rarely simple at the first draw, so there the clashing pairs are shuffled again (Steger & Wormald 1999). Throws
 * `consensus/no-such-overlay` where none exists.
 */
export function randomRegular(size: number, degree: number, rng: Rng): Overlay {
  if (degree >= size || degree < 2 || (size * degree) % 2 !== 0)
    throw new PeertuneError('consensus/no-such-overlay', `no connected graph of ${size} peers with degree ${degree}`, {
      facts: { size, degree }
    })
  for (let draw = 0; draw < MAX_DRAWS; draw++) {
    const overlay = drawRegular(size, degree, rng)
    if (overlay !== undefined && isConnected(overlay)) return overlay
  }
  throw new PeertuneError('consensus/no-such-overlay', 'no connected regular graph was drawn', {
    facts: { size, degree, draws: MAX_DRAWS }
  })
}

/** Pairs stubs; pairs that clash go back into the urn until none can be placed. */
function drawRegular(size: number, degree: number, rng: Rng): Overlay | undefined {
  const neighbours = range(size).map(() => new Set<number>())
  let stubs = range(size * degree).map((stub) => stub % size)
  while (stubs.length > 0) {
    const shuffled = rng.shuffle(stubs)
    const left: number[] = []
    for (let k = 0; k + 1 < shuffled.length; k += 2) {
      const [a, b] = [shuffled[k]!, shuffled[k + 1]!]
      if (a === b || neighbours[a]!.has(b)) left.push(a, b)
      else {
        neighbours[a]!.add(b)
        neighbours[b]!.add(a)
      }
    }
    if (left.length === stubs.length) return undefined
    stubs = left
  }
  return neighbours.map((set) => [...set].sort((a, b) => a - b))
}

export interface OverlayOptions {
  readonly size: number
  /** Of a random regular overlay. */
  readonly degree?: number
  readonly rng: Rng
}

/** Six neighbours: no bottleneck for an attacker to sit in, and size hardly matters (Epidemic Learning, 2023). */
export const DEFAULT_DEGREE = 6

export function createOverlay(kind: OverlayKind, { size, degree = DEFAULT_DEGREE, rng }: OverlayOptions): Overlay {
  switch (kind) {
    case 'ring':
      return ring(size)
    case 'torus':
      return torus(size)
    case 'exponential':
      return exponential(size)
    case 'complete':
      return complete(size)
    case 'random-regular':
      return size <= degree + 1 ? complete(size) : randomRegular(size, degree, rng)
  }
}
