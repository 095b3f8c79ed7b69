/**
 * IEEE 754 binary16 as 16-bit patterns. Node 20 has no Float16Array; every function here is exact integer work, so two
 * machines always agree on the bits.
 */

/** Largest finite binary16 value. */
export const HALF_MAX = 65504

/** Smallest positive binary16 value (subnormal), 2^-24. */
export const HALF_MIN_POSITIVE = 2 ** -24

const HALF_INFINITY = 0x7c00
const HALF_QUIET_NAN = 0x7e00

/** Rounds `value / unit` to an integer, ties to even; exact because both operations below are. */
function roundTiesToEven(scaled: number): number {
  const floor = Math.floor(scaled)
  const rest = scaled - floor
  if (rest !== 0.5) return rest < 0.5 ? floor : floor + 1
  return floor % 2 === 0 ? floor : floor + 1
}

/**
 * The bits of the binary16 nearest to `value`, ties to even (IEEE 754 roundTiesToEven). Beyond the range: infinity;
 * any NaN becomes the quiet NaN 0x7e00. The double is rounded once, not through float32.
 */
export function toHalf(value: number): number {
  if (Number.isNaN(value)) return HALF_QUIET_NAN
  const sign = value < 0 || Object.is(value, -0) ? 0x8000 : 0
  const magnitude = Math.abs(value)
  // 65520 is half way between 65504 and the next power of two; the tie goes to the even side, infinity.
  if (magnitude >= 65520) return sign | HALF_INFINITY
  if (magnitude < 2 ** -14) return sign | roundTiesToEven(magnitude * 2 ** 24)
  let exponent = Math.floor(Math.log2(magnitude))
  // log2 may round up across a power of two.
  if (2 ** exponent > magnitude) exponent--
  const significand = roundTiesToEven((magnitude / 2 ** exponent) * 1024)
  // A significand of 2048 carries into the exponent by plain addition.
  return sign | (((exponent + 15) << 10) + (significand - 1024))
}

/**
 * `toHalf` for a finite float32 given by its 32 bits, without leaving integers: several times faster, for whole vectors.
 */
export function float32ToHalf(pattern: number): number {
  const sign = (pattern >>> 16) & 0x8000
  const magnitude = pattern & 0x7fffffff
  // 0x477ff000 is 65520, where rounding reaches infinity; 0x38800000 is 2^-14, the smallest normal binary16.
  if (magnitude >= 0x477ff000) return sign | HALF_INFINITY
  if (magnitude >= 0x38800000) {
    // Exponents differ by 112; 13 bits are cut off, ties to even.
    const odd = (magnitude >>> 13) & 1
    return sign | ((magnitude - 0x38000000 + 0xfff + odd) >>> 13)
  }
  // Below 2^-25, and at it, the nearest is zero.
  if (magnitude <= 0x33000000) return sign
  const shift = 126 - (magnitude >>> 23)
  const significand = (magnitude & 0x7fffff) | 0x800000
  const kept = significand >>> shift
  const rest = significand & ((1 << shift) - 1)
  const half = 1 << (shift - 1)
  return sign | (kept + (rest > half || (rest === half && (kept & 1) === 1) ? 1 : 0))
}

/** The value of a 16-bit pattern; every binary16 is exact in float32 and float64. */
export function fromHalf(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1
  const exponent = (bits >> 10) & 0x1f
  const fraction = bits & 0x3ff
  if (exponent === 0) return sign * fraction * 2 ** -24
  if (exponent === 0x1f) return fraction === 0 ? sign * Infinity : Number.NaN
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15)
}

/**
 * The bits of the smallest binary16 that is not below `value`, for `value` >= 0. A quantiser's scale must be rounded up:
 * rounded down, the largest element of its block would be clipped, and clipping is a bias.
 * Infinity (0x7c00) where no finite one is large enough.
 */
export function toHalfRoundedUp(value: number): number {
  const nearest = toHalf(value)
  // Patterns of non-negative binary16 numbers are ordered like the numbers.
  return fromHalf(nearest) < value ? nearest + 1 : nearest
}
