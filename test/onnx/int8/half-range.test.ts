import { describe, expect, it } from 'vitest'
import { seededRng } from '../../../src/base/rng.js'
import { floatConstant } from '../../../src/onnx/graph/constant.js'
import { FULL_RANGE, HALF_RANGE, largestExactCode } from '../../../src/onnx/runtime/int8-probe.js'
import { computeInt8, inlineInt8 } from '../../../src/onnx/int8/products.js'
import { quantiseMatrix } from '../../../src/onnx/int8/weight.js'
import { evaluate, opsOf, typedGraph } from '../small-graph.js'

const [ROWS, INNER, OUTER] = [33, 48, 40]
/** Largest code of an operand. */
const OPERAND_LEVELS = 127
const INT16 = { least: -(2 ** 15), most: 2 ** 15 - 1 }

const noise = (length: number, salt: string): Float32Array => {
  const rng = seededRng('half range', salt)
  return Float32Array.from({ length }, () => rng.uniform() + rng.uniform() + rng.uniform() - 1.5)
}

/** Some at the ends of the range, with columns of one sign: what adds up to most. */
function matrix(): Float32Array {
  const values = noise(INNER * OUTER, 'w')
  for (let i = 0; i < INNER; i++) {
    values[i * OUTER] = 3
    values[i * OUTER + 1] = i < INNER / 2 ? -3 : 3
  }
  return values
}

const coded = (largest: number) => quantiseMatrix(matrix(), { rows: INNER, columns: OUTER, transposed: false, largest })

/** Unsigned bytes times codes as `vpmaddubsw` and `vpmaddwd` do: pairs in 16 bits that saturate, then 32. */
function saturatingSums(bytes: Uint8Array, codes: Int8Array): Int32Array {
  return Int32Array.from({ length: OUTER }, (_, j) => {
    let total = 0
    for (let i = 0; i < INNER; i += 2) {
      const pair = bytes[i]! * codes[i * OUTER + j]! + bytes[i + 1]! * codes[(i + 1) * OUTER + j]!
      total += Math.min(INT16.most, Math.max(INT16.least, pair))
    }
    return total
  })
}

const exactSums = (bytes: Uint8Array, codes: Int8Array): Int32Array =>
  Int32Array.from({ length: OUTER }, (_, j) => bytes.reduce((sum, byte, i) => sum + byte * codes[i * OUTER + j]!, 0))

async function productOf(x: Float32Array, largest: number): Promise<Float32Array> {
  const graph = await typedGraph({
    inputs: { x: [ROWS, INNER] },
    constants: [floatConstant('w', matrix(), [INNER, OUTER])],
    nodes: [{ op: 'Gemm', in: ['x', 'w'], out: ['y'] }],
    output: 'y'
  })
  const weight = () => inlineInt8('w8', { ...coded(largest), shape: [INNER, OUTER] })
  const inInt8 = computeInt8(graph, { weight })
  expect(opsOf(inInt8)).not.toContain('Gemm')
  const { y } = await evaluate(inInt8, { x: { type: 'float32', shape: [ROWS, INNER], data: x } })
  return y?.data as Float32Array
}

/** Differences from x W, each as a share of the most that rounding both to their codes allows. */
function errorsOf(got: Float32Array, x: Float32Array, largest: number): { shares: number[]; rms: number } {
  const [w, { scales }] = [matrix(), coded(largest)]
  const shares: number[] = []
  let squares = 0
  for (let row = 0; row < ROWS; row++) {
    const xs = x.subarray(row * INNER, (row + 1) * INNER)
    const xStep = xs.reduce((most, value) => Math.max(most, Math.abs(value)), 0) / OPERAND_LEVELS
    for (let j = 0; j < OUTER; j++) {
      let [want, most] = [0, 0]
      xs.forEach((value, i) => {
        const weight = w[i * OUTER + j]!
        want += value * weight
        // |x w - (x + dx)(w + dw)| with |dx| and |dw| at most half a step.
        const [dx, dw] = [xStep / 2, scales[j]! / 2]
        most += Math.abs(value) * dw + dx * Math.abs(weight) + dx * dw
      })
      const difference = Math.abs(got[row * OUTER + j]! - want)
      shares.push(difference / (1.0001 * most))
      squares += difference ** 2
    }
  }
  return { shares, rms: Math.sqrt(squares / shares.length) }
}

describe('half of the codes, for processors that add pairs of products up in 16 bits', () => {
  it('no pair of products leaves 16 bits, whatever the operand; with all codes some do', () => {
    const rng = seededRng('half range', 'bytes')
    const operands = [
      new Uint8Array(INNER).fill(255),
      new Uint8Array(INNER),
      ...Array.from({ length: 20 }, () => Uint8Array.from({ length: INNER }, () => rng.integer(256)))
    ]
    const { codes } = coded(HALF_RANGE)
    expect(Math.max(...codes.map(Math.abs))).toBe(HALF_RANGE)
    for (const bytes of operands) expect(saturatingSums(bytes, codes)).toEqual(exactSums(bytes, codes))
    const full = coded(FULL_RANGE).codes
    expect(saturatingSums(operands[0]!, full)).not.toEqual(exactSums(operands[0]!, full))
  })

  it('products are within the error of half a step of each number, twice as far from exact as with all codes', async () => {
    const x = noise(ROWS * INNER, 'x')
    const half = errorsOf(await productOf(x, HALF_RANGE), x, HALF_RANGE)
    const full = errorsOf(await productOf(x, FULL_RANGE), x, FULL_RANGE)
    expect(Math.max(...half.shares)).toBeLessThan(1)
    expect(Math.max(...full.shares)).toBeLessThan(1)
    // The operand's own error is the same in both.
    expect(half.rms / full.rms).toBeGreaterThan(1.2)
    expect(half.rms / full.rms).toBeLessThan(127 / 64)
  })

  it('are chosen where the largest sums are not exact, and only there', async () => {
    const sums = (codes: number) => {
      const bytes = new Uint8Array(INNER).fill(255)
      const column = new Int8Array(INNER * OUTER).fill(codes)
      return { exact: exactSums(bytes, column), saturated: saturatingSums(bytes, column) }
    }
    const { exact, saturated } = sums(FULL_RANGE)
    const scaled = (each: Int32Array) => async () => each.map((sum) => (sum / INNER) * 64)
    expect(await largestExactCode(scaled(exact))).toBe(FULL_RANGE)
    expect(await largestExactCode(scaled(saturated))).toBe(HALF_RANGE)
    const oneWrong = scaled(exact.with(7, exact[7]! - 1))
    expect(await largestExactCode(oneWrong)).toBe(HALF_RANGE)
  })
})
