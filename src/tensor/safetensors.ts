import { PeertuneError } from '../base/errors.js'
import { fromHalf } from './half.js'
import { type Shape, shapeSize } from './schema.js'

/** https://huggingface.co/docs/safetensors: 8 bytes of header length, a JSON header, the data. All little endian. */

/** Bytes. The header's limit in the reference implementation. */
const MAX_HEADER_BYTES = 100_000_000

/** Element types read here, with their size in bytes. */
const ELEMENT_BYTES = { F64: 8, F32: 4, F16: 2, BF16: 2, I64: 8, I32: 4, U8: 1, BOOL: 1 } as const

export type SafetensorsType = keyof typeof ELEMENT_BYTES

export interface SafetensorsEntry {
  readonly type: SafetensorsType
  readonly shape: Shape
  readonly bytes: Uint8Array
}

const malformed = (source: string, detail: string, cause?: unknown): PeertuneError =>
  new PeertuneError('tensor/not-safetensors', `${source} is no safetensors file: ${detail}`, {
    facts: { source, detail },
    cause
  })

/** Throws `tensor/not-safetensors`. Entries are views of `bytes`. */
export function readSafetensors(bytes: Uint8Array, source = 'the file'): Map<string, SafetensorsEntry> {
  if (bytes.length < 8) throw malformed(source, 'it is shorter than its header')
  const headerBytes = Number(new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true))
  const start = 8 + headerBytes
  if (headerBytes > MAX_HEADER_BYTES || start > bytes.length) throw malformed(source, 'its header does not fit')
  const header = parseHeader(bytes.subarray(8, start), source)
  return new Map(
    Object.entries(header)
      .filter(([name]) => name !== '__metadata__')
      .map(([name, entry]) => [name, readEntry([name, entry], bytes.subarray(start), source)])
  )
}

function parseHeader(bytes: Uint8Array, source: string): Record<string, unknown> {
  try {
    return JSON.parse(new TextDecoder().decode(bytes)) as Record<string, unknown>
  } catch (cause) {
    throw malformed(source, 'its header is no JSON', cause)
  }
}

function readEntry([name, entry]: readonly [string, unknown], data: Uint8Array, source: string): SafetensorsEntry {
  const { dtype, shape, data_offsets: offsets } = (entry ?? {}) as Record<string, unknown>
  const [begin, end] = Array.isArray(offsets) ? (offsets as number[]) : []
  if (typeof dtype !== 'string' || !(dtype in ELEMENT_BYTES)) throw malformed(source, `${name} is of type ${dtype}`)
  if (!Array.isArray(shape) || begin === undefined || end === undefined)
    throw malformed(source, `${name} is incomplete`)
  const type = dtype as SafetensorsType
  if (begin < 0 || end - begin !== shapeSize(shape as number[]) * ELEMENT_BYTES[type] || end > data.length)
    throw malformed(source, `${name} does not have the bytes of its shape`)
  return { type, shape: shape as number[], bytes: data.subarray(begin, end) }
}

/** Numbers of a float entry; those of 16 bits are exact in float32. Throws `tensor/not-safetensors` for other types. */
export function floatsOf(entry: SafetensorsEntry, name = 'tensor'): Float32Array | Float64Array {
  // A copy: the data of an entry may start at any byte.
  const { buffer } = new Uint8Array(entry.bytes)
  if (entry.type === 'F32') return new Float32Array(buffer)
  if (entry.type === 'F64') return new Float64Array(buffer)
  if (entry.type === 'F16') return Float32Array.from(new Uint16Array(buffer), fromHalf)
  // The upper half of a float32.
  if (entry.type === 'BF16')
    return new Float32Array(Uint32Array.from(new Uint16Array(buffer), (bits) => bits << 16).buffer)
  throw malformed(name, `it is ${entry.type}, not a float tensor`)
}

/** Numbers of an integer entry as int32. Throws `tensor/not-safetensors` for other types. */
export function intsOf(entry: SafetensorsEntry, name = 'tensor'): Int32Array {
  const { buffer } = new Uint8Array(entry.bytes)
  if (entry.type === 'I64') return Int32Array.from(new BigInt64Array(buffer), Number)
  if (entry.type === 'I32') return new Int32Array(buffer)
  throw malformed(name, `it is ${entry.type}, not an integer tensor`)
}

export interface NamedTensor {
  readonly name: string
  readonly shape: Shape
  readonly data: Float32Array | Int32Array
}

/** float32 and int32 tensors -> file bytes, sorted by name as the reference implementation does. */
export function writeSafetensors(tensors: readonly NamedTensor[]): Uint8Array {
  const sorted = tensors.toSorted((a, b) => (a.name < b.name ? -1 : 1))
  // transformers refuses files that do not name the framework they are for.
  const header: Record<string, unknown> = { __metadata__: { format: 'pt' } }
  let offset = 0
  for (const { name, shape, data } of sorted) {
    header[name] = {
      dtype: data instanceof Int32Array ? 'I32' : 'F32',
      shape,
      data_offsets: [offset, offset + data.byteLength]
    }
    offset += data.byteLength
  }
  const json = new TextEncoder().encode(JSON.stringify(header))
  const headerBytes = Math.ceil(json.length / 8) * 8
  const file = new Uint8Array(8 + headerBytes + offset)
  file.fill(0x20, 8, 8 + headerBytes)
  file.set(json, 8)
  new DataView(file.buffer).setBigUint64(0, BigInt(headerBytes), true)
  let at = 8 + headerBytes
  for (const { data } of sorted) {
    file.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), at)
    at += data.byteLength
  }
  return file
}
