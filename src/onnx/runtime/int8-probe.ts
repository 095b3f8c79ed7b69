import type { Initializer } from '../graph/graph.js'
import { plainNode } from '../graph/plain-node.js'
import { createSession } from './session.js'

/** Largest code of a frozen matrix where the processor adds 8-bit products up exactly. */
export const FULL_RANGE = 127
/**
 * And where it adds pairs of them up in 16 bits that saturate (x86 before VNNI, `vpmaddubsw`):
 * 2 * 255 * 64 = 32640 stays below 2^15.
 */
export const HALF_RANGE = 64

const [ROWS, INNER, OUTER] = [4, 64, 16] as const
/** Of the largest unsigned byte with the largest code, all along the inner axis. */
const EXACT_SUM = INNER * 255 * FULL_RANGE

/** Sums that the machine's kernels make of products that are all 255 * FULL_RANGE, INNER of them a sum. */
export type LargestSums = () => Promise<ArrayLike<number>>

/** Largest code that kernels multiply by unsigned bytes without an error: asked of sums that would show it. */
export async function largestExactCode(largestSums: LargestSums = sumsOfThisMachine): Promise<number> {
  return Array.from(await largestSums()).every((sum) => sum === EXACT_SUM) ? FULL_RANGE : HALF_RANGE
}

async function sumsOfThisMachine(): Promise<ArrayLike<number>> {
  const codes: Initializer = {
    name: 'codes',
    type: 'int8',
    shape: [INNER, OUTER],
    data: { kind: 'inline', bytes: new Uint8Array(INNER * OUTER).fill(FULL_RANGE) }
  }
  const session = await createSession(
    {
      name: 'int8 probe',
      opsets: { '': 20 },
      inputs: [{ name: 'x', type: 'float32', shape: [ROWS, INNER] }],
      outputs: [{ name: 'y', type: 'float32', shape: [ROWS, OUTER] }],
      nodes: [
        plainNode('Cast', ['x'], 'x8', { to: { type: 'int', value: 2 } }),
        plainNode('MatMulInteger', ['x8', 'codes'], 'y32'),
        plainNode('Cast', ['y32'], 'y', { to: { type: 'int', value: 1 } })
      ],
      initializers: new Map([[codes.name, codes]]),
      values: new Map()
    },
    { optimization: 'disabled' }
  )
  try {
    const data = new Float32Array(ROWS * INNER).fill(255)
    const { y } = await session.run({ x: { type: 'float32', shape: [ROWS, INNER], data } })
    return y?.data ?? []
  } finally {
    await session.release()
  }
}
