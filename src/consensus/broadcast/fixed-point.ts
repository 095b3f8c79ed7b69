import { createHash } from 'node:crypto'
import { PeertuneError } from '../../base/errors.js'
import type { Decoded } from '../../base/verdict.js'
import { decoded } from '../../base/verdict.js'
import type { CodecVerdictCode, VectorCodec } from '../../codec/codec.js'
import type { Update } from '../../codec/wire/update.js'

/**
 * Replicas are sums in the integers: every element of every update is rounded once, to a grid that all peers share, and
 * integers add up to the same whatever the order. Floating point would not: (a + b) + c is not a + (b + c).
 *
 * The grid is 2^-30, finer than float32 is around 1/64. An element of an update is at most MAX_UNITS of it, and there are
 * at most MAX_AUTHORS * MAX_SEQUENCE updates, so that a sum stays below 2^8 * 2^15 * 2^30 = 2^53, where every integer
 * still has its own float64.
 */
const GRID_BITS = 30
const GRID = 2 ** -GRID_BITS
export const MAX_UNITS = 2 ** 30

/** Authors whose updates count, ever. */
export const MAX_AUTHORS = 256

/** Updates of one author: a million local steps at 32 between two updates. */
export const MAX_SEQUENCE = 32_767

/** How an update becomes a step. The same at every peer: from the manifest. */
export interface StepRule {
  readonly codec: VectorCodec
  /** Elements of the parameter vector. */
  readonly size: number
  /** What the weighted mean of the pseudo-gradients is multiplied by (the outer step size of DiLoCo). */
  readonly outerStep: number
  /** The most an update may move one parameter, in (0, 1]. */
  readonly maxStep: number
  /** Pseudo-gradients of a larger Euclidean norm are scaled down to it. Absent: whatever they have. */
  readonly maxNorm?: number
}

/** What one update adds to a replica, in units of the grid; sparse. */
export interface Contribution {
  /** Rising, uint32[n]. */
  readonly indices: Uint32Array
  /** Integers, float64[n]. */
  readonly units: Float64Array
}

/**
 * The step that an update makes: outerStep * samples / totalSamples * min(1, maxNorm / norm) * payload, each element
 * rounded to the grid and held within maxStep. A function of the update and the manifest alone. Only operations that
 * IEEE 754 rounds the same everywhere: the same integers on every machine.
 */
export function contributionOf(rule: StepRule, update: Update): Decoded<Contribution, CodecVerdictCode> {
  const values = rule.codec.decode(update.payload, rule.size)
  if (!values.ok) return values
  const dense = values.value
  let count = 0
  let square = 0
  for (let i = 0; i < dense.length; i++) {
    const value = dense[i]!
    if (value === 0) continue
    count++
    square += value * value
  }
  const norm = Math.sqrt(square)
  const clip = rule.maxNorm !== undefined && norm > rule.maxNorm ? rule.maxNorm / norm : 1
  const scale = rule.outerStep * (update.samples / update.totalSamples) * clip
  const most = Math.min(MAX_UNITS, Math.floor(rule.maxStep / GRID))
  const indices = new Uint32Array(count)
  const units = new Float64Array(count)
  for (let i = 0, at = 0; i < dense.length; i++) {
    if (dense[i] === 0) continue
    indices[at] = i
    const rounded = Math.floor((dense[i]! * scale) / GRID + 0.5)
    units[at++] = Math.max(-most, Math.min(most, rounded))
  }
  return decoded({ indices, units })
}

/** The common start plus the sum of all contributions counted so far. */
export interface Replica {
  /** float32[size], live: changes with every contribution. */
  readonly parameters: Float32Array
  /** Adds a contribution, or takes it back: exact, in any order. */
  add(contribution: Contribution, sign: 1 | -1): void
  /** The sum, float64[size] of integers; a copy. */
  units(): Float64Array
  /** Takes a whole sum over. */
  reset(units: Float64Array): void
  /** Lower-case hexadecimal SHA-256 of the sum. */
  hash(): string
}

/** `reference`: the common seeded start x0, float32[size]. */
export function createReplica(reference: Float32Array): Replica {
  const sum = new Float64Array(reference.length)
  const parameters = reference.slice()
  const show = (i: number): void => {
    parameters[i] = reference[i]! + sum[i]! * GRID
  }
  return {
    parameters,
    add({ indices, units }, sign) {
      for (let k = 0; k < indices.length; k++) {
        const i = indices[k]!
        sum[i] = sum[i]! + sign * units[k]!
        show(i)
      }
    },
    units: () => sum.slice(),
    reset(units) {
      if (units.length !== sum.length)
        throw new PeertuneError('tensor/length-mismatch', 'a snapshot of another size', {
          facts: { expected: sum.length, got: units.length }
        })
      sum.set(units)
      for (let i = 0; i < sum.length; i++) show(i)
    },
    hash: () => unitsHash(sum)
  }
}

/** Little-endian float64 of every unit: what a snapshot sends and a hash is made of. */
export function unitsToBytes(units: Float64Array): Uint8Array {
  const bytes = new Uint8Array(8 * units.length)
  const view = new DataView(bytes.buffer)
  for (let i = 0; i < units.length; i++) view.setFloat64(8 * i, units[i]!, true)
  return bytes
}

/** Undefined for anything but `size` integers below 2^53. */
export function unitsFromBytes(bytes: Uint8Array, size: number): Float64Array | undefined {
  if (bytes.length !== 8 * size) return undefined
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const units = new Float64Array(size)
  for (let i = 0; i < size; i++) {
    const value = view.getFloat64(8 * i, true)
    if (!Number.isSafeInteger(value) || Object.is(value, -0)) return undefined
    units[i] = value
  }
  return units
}

export const unitsHash = (units: Float64Array): string => createHash('sha256').update(unitsToBytes(units)).digest('hex')
