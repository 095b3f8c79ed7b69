import { seededRng } from '../../src/base/rng.js'
import type { CodecContext, CodecName, VectorCodec } from '../../src/codec/codec.js'
import { codecByName, isSparse } from '../../src/codec/registry.js'
import { distance2, norm2 } from '../../src/tensor/linear.js'
import { createSchema } from '../../src/tensor/schema.js'

/** LoRA of rank 8 on 64 matrices of 1024 x 1024: 2^20 parameters. */
const SCHEMA = createSchema(
  Array.from({ length: 64 }, (_, layer) => [
    { name: `layers.${layer}.lora_A.weight`, shape: [8, 1024] },
    { name: `layers.${layer}.lora_B.weight`, shape: [1024, 8] }
  ]).flat()
)

const ROUNDS = 7

/** Binary entropy in bits. */
const entropy = (p: number): number => -(p * Math.log2(p) + (1 - p) * Math.log2(1 - p))

/**
 * Bytes per parameter that no coder of the same numbers falls below: the bits of its levels, and for a sparse one the
 * entropy of where they are.
 */
function boundOf(name: CodecName, fraction: number): number {
  const indices = entropy(fraction) / 8
  const plain = name.replace(/-edge$/, '') as CodecName
  if (plain === 'topk') return indices + (fraction * Math.log2(255)) / 8
  if (plain === 'topk-int4') return indices + (fraction * Math.log2(15)) / 8
  if (plain === 'rank-slots') return (fraction * Math.log2(255)) / 8
  // Half a factor is projected to one float per row or column: 4 (1024 + 8) / (16 * 1024) on average.
  if (plain === 'powergossip') return (4 * (1024 + 8)) / (2 * 8 * 1024)
  return { float32: 4, float16: 2, int8: Math.log2(255) / 8, int4: Math.log2(15) / 8, sign: 1 / 8 }[
    plain as 'float32' | 'float16' | 'int8' | 'int4' | 'sign'
  ]
}

/** Bits that say where the kept elements are, for each of them, and the entropy of a random choice; of top-k coders only. */
function indexBits(name: CodecName, payload: Uint8Array, count: number): { coded: number; bound: number } | undefined {
  if (!name.startsWith('topk')) return undefined
  const kept = new DataView(payload.buffer, payload.byteOffset).getUint32(0, true)
  const values = codecByName(name.startsWith('topk-int4') ? 'int4' : 'int8').encodedBytes(kept)
  // The count in front is not about places.
  const coded = (8 * (payload.length - values - 4)) / kept
  return { coded, bound: (count * entropy(kept / count)) / kept }
}

const median = (values: readonly number[]): number => values.toSorted((a, b) => a - b)[values.length >> 1] ?? 0

function measure(name: CodecName, codec: VectorCodec, vector: Float32Array) {
  const encode: number[] = []
  const decode: number[] = []
  let bytes = 0
  let error = 0
  let indices: ReturnType<typeof indexBits>
  for (let round = 0; round < ROUNDS; round++) {
    const rng = seededRng('bench', 'codecs', round)
    const start = performance.now()
    const payload = codec.encode(vector, rng, vector)
    const middle = performance.now()
    const back = codec.decode(payload, vector.length)
    decode.push(performance.now() - middle)
    encode.push(middle - start)
    bytes = payload.length / vector.length
    indices = indexBits(name, payload, vector.length)
    if (back.ok) error = (distance2(vector, back.value) / norm2(vector)) ** 2
  }
  const sum = encode.map((ms, round) => ms + (decode[round] ?? 0))
  return {
    bytes,
    encodeMs: median(encode),
    decodeMs: median(decode),
    sumMs: median(sum),
    leastMs: Math.min(...sum),
    error,
    indices
  }
}

const CASES: readonly (readonly [CodecName, number?])[] = [
  ['float32'],
  ['float16'],
  ['int8'],
  ['int8-edge'],
  ['int4'],
  ['int4-edge'],
  ['sign'],
  ['topk', 0.1],
  ['topk', 0.01],
  ['topk', 0.001],
  ['topk-int4', 0.1],
  ['topk-int4', 0.01],
  ['rank-slots', 0.1],
  ['rank-slots', 0.02],
  ['powergossip']
]

/** `npm run bench -- codecs [--json]`: 2^20 Gaussian parameters through every coder. */
export function run(): Promise<object> {
  const rng = seededRng('bench', 'codecs')
  const vector = Float32Array.from(
    { length: SCHEMA.size },
    () => Math.sqrt(-2 * Math.log(1 - rng.uniform())) * Math.cos(2 * Math.PI * rng.uniform())
  )
  console.log(
    'codec               B/param    bound     saving   encode ms   decode ms    sum ms    (least)   error^2   bits/index    bound'
  )
  const rows = CASES.map(([name, fraction = 0]) => {
    const context: CodecContext = { schema: SCHEMA, ...(isSparse(name) ? { fraction } : {}) }
    const { bytes, encodeMs, decodeMs, sumMs, leastMs, error, indices } = measure(
      name,
      codecByName(name, context),
      vector
    )
    const bound = boundOf(name, fraction)
    const label = isSparse(name) ? `${name} ${100 * fraction} %` : name
    console.log(
      `${label.padEnd(18)} ${bytes.toFixed(4).padStart(8)} ${bound.toFixed(4).padStart(8)} ` +
        `${`${(4 / bytes).toFixed(1)}x`.padStart(10)} ${encodeMs.toFixed(1).padStart(11)} ` +
        `${decodeMs.toFixed(1).padStart(11)} ${sumMs.toFixed(1).padStart(9)} ${leastMs.toFixed(1).padStart(10)} ` +
        `${error.toExponential(1).padStart(9)}` +
        (indices === undefined
          ? ''
          : ` ${indices.coded.toFixed(3).padStart(12)} ${indices.bound.toFixed(3).padStart(8)}`)
    )
    return {
      codec: name,
      fraction,
      bytes,
      bound,
      encodeMs,
      decodeMs,
      sumMs,
      leastMs,
      error,
      ...(indices && { indices })
    }
  })
  return Promise.resolve({ parameters: vector.length, rows })
}
