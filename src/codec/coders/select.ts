/** Bits of a float32 without its sign are ordered like the magnitudes, so a radix histogram finds the k largest. */
const MAGNITUDE = 0x7fffffff
const HIGH_SHIFT = 16
const HIGH_BINS = 1 << 15
const LOW_MASK = 0xffff
/** Elements below which two histograms of 100,000 bins cost more than sorting. */
const MIN_HISTOGRAM = 1024

/**
 * Indices of the k elements of largest magnitude, rising; zeros are left out, so there may be fewer. Of equal ones the
 * first win. Linear time: three passes over the vector, no sorting. `vector` holds finite numbers only.
 */
export function largestMagnitudes(vector: Float32Array, k: number): Uint32Array {
  const bits = new Uint32Array(vector.buffer, vector.byteOffset, vector.length)
  if (bits.length < MIN_HISTOGRAM) return largestOfFew(bits, k)
  const high = new Uint32Array(HIGH_BINS)
  for (let i = 0; i < bits.length; i++) high[(bits[i]! & MAGNITUDE) >>> HIGH_SHIFT]!++
  const top = binHolding(high, k)
  const low = new Uint32Array(LOW_MASK + 1)
  for (let i = 0; i < bits.length; i++) {
    const magnitude = bits[i]! & MAGNITUDE
    if (magnitude >>> HIGH_SHIFT === top.bin) low[magnitude & LOW_MASK]!++
  }
  const rest = binHolding(low, k - top.above)
  const threshold = Math.max(1, top.bin * 2 ** HIGH_SHIFT + rest.bin)
  return gather(bits, k, { threshold, ties: k - top.above - rest.above })
}

/** The same by sorting, for vectors much shorter than the histograms. */
function largestOfFew(bits: Uint32Array, k: number): Uint32Array {
  const rising = bits.map((value) => value & MAGNITUDE).sort()
  const smallest = rising[Math.max(0, rising.length - k)] ?? 0
  const above = rising.reduce((count, magnitude) => count + (magnitude > smallest ? 1 : 0), 0)
  return gather(bits, k, { threshold: Math.max(1, smallest), ties: k - above })
}

/** The bin in which the k-th largest lies, and how many lie above that bin; bin 0 where there are fewer than k. */
function binHolding(counts: Uint32Array, k: number): { readonly bin: number; readonly above: number } {
  let above = 0
  for (let bin = counts.length - 1; bin > 0; bin--) {
    if (above + counts[bin]! >= k) return { bin, above }
    above += counts[bin]!
  }
  return { bin: 0, above }
}

/** Where the kept end: everything above the threshold is, and the first `ties` that equal it. */
interface Cut {
  readonly threshold: number
  readonly ties: number
}

function gather(bits: Uint32Array, k: number, { threshold, ties }: Cut): Uint32Array {
  const indices = new Uint32Array(Math.min(k, bits.length))
  let kept = 0
  let equal = 0
  for (let i = 0; i < bits.length && kept < indices.length; i++) {
    const magnitude = bits[i]! & MAGNITUDE
    if (magnitude > threshold || (magnitude === threshold && equal++ < ties)) indices[kept++] = i
  }
  return indices.subarray(0, kept)
}
