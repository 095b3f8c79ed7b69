import type { Decoded } from '../../base/verdict.js'
import { decoded, refused, reject } from '../../base/verdict.js'
import type { CodecVerdictCode } from '../codec.js'

/**
 * Rising indices as Rice-coded gaps (Golomb 1966, Rice & Plaunt 1971): a gap g is g >> b in unary (ones, then a zero) and
 * its b low bits. For k indices out of n at random the gaps are geometric and this is within 3 % of the entropy
 * n H(k/n), for any share up to one half. Bits fill bytes from the lowest.
 */
const MAX_RICE_PARAMETER = 31

/** Bits of `indices` gaps that sum to at most `range`, at most: the unary parts cannot sum to more than range >> b. */
const mostBits = (indices: number, range: number, parameter: number): number =>
  indices * (1 + parameter) + Math.floor(range / 2 ** parameter)

/** The parameter that bounds the length best: about log2 of the mean gap. */
function safeParameter(indices: number, range: number): number {
  let best = 0
  for (let b = 1; b <= MAX_RICE_PARAMETER; b++)
    if (mostBits(indices, range, b) < mostBits(indices, range, best)) best = b
  return best
}

/** The most bytes `riceEncode` takes for at most `indices` indices below `range`. */
export const riceMostBytes = (indices: number, range: number): number =>
  Math.ceil(mostBits(indices, range, safeParameter(indices, range)) / 8)

/** Bits that these indices take with a parameter. */
function exactBits(indices: Uint32Array, parameter: number): number {
  let bits = indices.length * (1 + parameter)
  let last = -1
  for (let i = 0; i < indices.length; i++) {
    bits += Math.floor((indices[i]! - last - 1) / 2 ** parameter)
    last = indices[i]!
  }
  return bits
}

/** The shortest of the safe parameter and its neighbours. */
function bestParameter(indices: Uint32Array, range: number): { readonly parameter: number; readonly bits: number } {
  const safe = safeParameter(indices.length, range)
  let best = { parameter: safe, bits: exactBits(indices, safe) }
  for (const parameter of [safe - 2, safe - 1, safe + 1]) {
    if (parameter < 0 || parameter > MAX_RICE_PARAMETER) continue
    const bits = exactBits(indices, parameter)
    if (bits < best.bits) best = { parameter, bits }
  }
  return best
}

/** Strictly rising indices below `range`, as one byte of parameter and the bits. */
export function riceEncode(indices: Uint32Array, range: number): Uint8Array {
  const { parameter, bits } = bestParameter(indices, range)
  const bytes = new Uint8Array(1 + Math.ceil(bits / 8))
  bytes[0] = parameter
  let at = 8
  let last = -1
  for (let i = 0; i < indices.length; i++) {
    const gap = indices[i]! - last - 1
    last = indices[i]!
    for (let ones = Math.floor(gap / 2 ** parameter); ones > 0; ones--, at++) bytes[at >> 3]! |= 1 << (at & 7)
    at++
    for (let bit = 0; bit < parameter; bit++, at++) if ((gap >>> bit) & 1) bytes[at >> 3]! |= 1 << (at & 7)
  }
  return bytes
}

export interface RiceDecoded {
  readonly indices: Uint32Array
  /** Bytes read, the parameter's included. */
  readonly bytes: number
}

/**
 * Reads `count` strictly rising indices below `range`. Refuses indices beyond it, bits that run out and padding that is
 * not zero. Allocates 4 * count bytes: bound `count` first.
 */
export function riceDecode(bytes: Uint8Array, count: number, range: number): Decoded<RiceDecoded, CodecVerdictCode> {
  const parameter = bytes[0]
  if (parameter === undefined || parameter > MAX_RICE_PARAMETER)
    return refused(reject('codec/malformed', `a Rice parameter of ${parameter}`))
  const indices = new Uint32Array(count)
  const end = 8 * bytes.length
  const unit = 2 ** parameter
  let at = 8
  let last = -1
  for (let i = 0; i < count; i++) {
    let index = last + 1
    for (; at < end && (bytes[at >> 3]! >> (at & 7)) & 1; at++) {
      index += unit
      if (index >= range) return refused(reject('codec/malformed', `index ${i} is beyond ${range}`))
    }
    at++
    for (let bit = 0; bit < parameter; bit++, at++) if ((bytes[at >> 3]! >> (at & 7)) & 1) index += 2 ** bit
    if (at > end) return refused(reject('codec/truncated', `${count} indices announced, ${i} there`))
    if (index >= range) return refused(reject('codec/malformed', `index ${i} is ${index}, beyond ${range}`))
    indices[i] = index
    last = index
  }
  const whole = Math.ceil(at / 8)
  if (at % 8 !== 0 && bytes[whole - 1]! >> (at % 8) !== 0)
    return refused(reject('codec/malformed', 'bits behind the last index are not zero'))
  return decoded({ indices, bytes: whole })
}
