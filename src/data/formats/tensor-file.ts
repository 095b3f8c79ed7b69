import { closeSync, openSync, readSync } from 'node:fs'
import { PeertuneError } from '../../base/errors.js'
import { fromHalf } from '../../tensor/half.js'
import { type Shape, shapeSize } from '../../tensor/schema.js'
import { cannotRead, statFile } from './files.js'

/** Bytes of a header: names and shapes. */
const MAX_HEADER_BYTES = 16 * 1024 * 1024
const NPY_MAGIC = '\x93NUMPY'

interface ElementKind {
  readonly name: string
  readonly bytes: number
  readonly isFloat: boolean
  at(view: DataView, offset: number): number
}

const kind = (name: string, bytes: number, isFloat: boolean, at: ElementKind['at']): ElementKind => ({
  name,
  bytes,
  isFloat,
  at
})
const bfloat16 = (bits: number): number => new Float32Array(Uint32Array.of(bits << 16).buffer)[0]!

/** All little endian, by the name that safetensors and by that which numpy gives them. */
const FLOAT64 = kind('float64', 8, true, (view, at) => view.getFloat64(at, true))
const FLOAT32 = kind('float32', 4, true, (view, at) => view.getFloat32(at, true))
const FLOAT16 = kind('float16', 2, true, (view, at) => fromHalf(view.getUint16(at, true)))
const BFLOAT16 = kind('bfloat16', 2, true, (view, at) => bfloat16(view.getUint16(at, true)))
const INT64 = kind('int64', 8, false, (view, at) => Number(view.getBigInt64(at, true)))
const INT32 = kind('int32', 4, false, (view, at) => view.getInt32(at, true))
const INT16 = kind('int16', 2, false, (view, at) => view.getInt16(at, true))
const INT8 = kind('int8', 1, false, (view, at) => view.getInt8(at))
const UINT8 = kind('uint8', 1, false, (view, at) => view.getUint8(at))
const BOOL = kind('bool', 1, false, (view, at) => view.getUint8(at))
const SAFETENSORS_KINDS: Readonly<Record<string, ElementKind>> = {
  F64: FLOAT64,
  F32: FLOAT32,
  F16: FLOAT16,
  BF16: BFLOAT16,
  I64: INT64,
  I32: INT32,
  I16: INT16,
  I8: INT8,
  U8: UINT8,
  BOOL
}
const NUMPY_KINDS: Readonly<Record<string, ElementKind>> = {
  '<f8': FLOAT64,
  '<f4': FLOAT32,
  '<f2': FLOAT16,
  '<i8': INT64,
  '<i4': INT32,
  '<i2': INT16,
  '|i1': INT8,
  '|u1': UINT8,
  '|b1': BOOL
}

/** One tensor in a file, read row by row: its first axis counts the examples. */
export interface TensorFile {
  /** As the configuration names it. */
  readonly name: string
  readonly shape: Shape
  /** e.g. `float32`, `int64`. */
  readonly type: string
  readonly isFloat: boolean
  /** Elements of one row. */
  readonly rowSize: number
  /** The row as it lies in the file. */
  bytes(row: number): Uint8Array
  /** Whole numbers as int32 where the file has such, float32 otherwise. Throws `data/bad-tensor` beyond 32 bits. */
  row(row: number): Float32Array | Int32Array
  close(): void
}

/** `file.safetensors#name` names a tensor in a file. A folder's name may have a # in it. */
export function tensorPlace(name: string): { readonly path: string; readonly tensor?: string } {
  const [, path, tensor] = /^(.*\.safetensors)#([^/]*)$/s.exec(name) ?? []
  return path === undefined ? { path: name } : { path, tensor: tensor! }
}

/**
 * `file.npy` (https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html), `file.safetensors` with one tensor,
 * or `file.safetensors#name`. The header alone is read; rows come from the file when asked for. Throws `data/no-file`,
 * `data/bad-tensor`.
 */
export async function openTensor(name: string): Promise<TensorFile> {
  const { path, tensor } = tensorPlace(name)
  const { size } = await statFile(path)
  const file = orCannotRead(path, () => openSync(path, 'r'))
  try {
    const read = (start: number, length: number): Buffer => {
      const bytes = Buffer.alloc(length)
      orCannotRead(path, () => readSync(file, bytes, 0, length, start))
      return bytes
    }
    const place = path.endsWith('.npy') ? npyPlace(name, read) : safetensorsPlace(name, tensor, read)
    checkPlace(name, place, size)
    return tensorAt(name, place, { read, close: () => closeSync(file) })
  } catch (error) {
    closeSync(file)
    throw error
  }
}

function orCannotRead<T>(path: string, read: () => T): T {
  try {
    return read()
  } catch (cause) {
    throw cannotRead(path, cause)
  }
}

type ReadBytes = (start: number, length: number) => Buffer

interface Place {
  readonly kind: ElementKind
  readonly shape: Shape
  /** First byte of the data in the file. */
  readonly start: number
}

function tensorAt(
  name: string,
  { kind, shape, start }: Place,
  { read, close }: { read: ReadBytes; close: () => void }
): TensorFile {
  const rowSize = shapeSize(shape.slice(1))
  const rowBytes = rowSize * kind.bytes
  const bytes = (row: number): Buffer => read(start + row * rowBytes, rowBytes)
  return {
    name,
    shape,
    type: kind.name,
    isFloat: kind.isFloat,
    rowSize,
    bytes,
    row(row) {
      const buffer = bytes(row)
      const view = new DataView(buffer.buffer, buffer.byteOffset, buffer.length)
      const out = kind.isFloat ? new Float32Array(rowSize) : new Int32Array(rowSize)
      for (let i = 0; i < rowSize; i++) {
        const value = kind.at(view, i * kind.bytes)
        if (!kind.isFloat && value !== (value | 0))
          throw badTensor(name, 'whole numbers of 32 bits', `${value} in row ${row}`)
        out[i] = value
      }
      return out
    },
    close
  }
}

/** A header may promise anything: the file must be as long as it says. */
function checkPlace(name: string, { kind, shape, start }: Place, size: number): void {
  const whole = shape.every((dim) => Number.isSafeInteger(dim) && dim >= 0)
  if (shape.length === 0 || !whole) throw badTensor(name, 'a tensor with a row for each example', `shape [${shape}]`)
  const end = start + shapeSize(shape) * kind.bytes
  if (end > size) throw badTensor(name, `${end} bytes for ${kind.name}[${shape}]`, `${size}`)
}

function npyPlace(name: string, read: ReadBytes): Place {
  const head = read(0, 12)
  if (head.toString('latin1', 0, 6) !== NPY_MAGIC) throw badTensor(name, 'a .npy file', 'something else')
  const wide = head[6] !== 1
  const length = wide ? head.readUInt32LE(8) : head.readUInt16LE(8)
  const begin = wide ? 12 : 10
  if (length > MAX_HEADER_BYTES) throw badTensor(name, `a header of at most ${MAX_HEADER_BYTES} bytes`, `${length}`)
  const header = read(begin, length).toString('latin1')
  const descr = /'descr':\s*'([^']+)'/.exec(header)?.[1] ?? 'nothing'
  const dims = /'shape':\s*\(([\d\s,L]*)\)/.exec(header)?.[1]
  const kind = NUMPY_KINDS[descr]
  if (kind === undefined) throw badTensor(name, `one of ${Object.keys(NUMPY_KINDS).join(', ')}`, `elements of ${descr}`)
  if (dims === undefined) throw badTensor(name, 'a header with a shape', header.trim().slice(0, 60))
  if (/'fortran_order':\s*True/.test(header))
    throw badTensor(name, 'rows in C order', 'Fortran order (numpy.ascontiguousarray puts it right)')
  const shape = dims.split(',').flatMap((dim) => (dim.trim() === '' ? [] : [Number.parseInt(dim, 10)]))
  return { kind, shape, start: begin + length }
}

interface SafetensorsHeader {
  readonly [name: string]: { readonly dtype?: unknown; readonly shape?: unknown; readonly data_offsets?: unknown }
}

function safetensorsPlace(name: string, wanted: string | undefined, read: ReadBytes): Place {
  const length = Number(read(0, 8).readBigUInt64LE(0))
  if (length > MAX_HEADER_BYTES) throw badTensor(name, 'a .npy or .safetensors file', 'something else')
  const header = headerOf(name, read(8, length))
  const names = Object.keys(header).filter((each) => each !== '__metadata__')
  const chosen = wanted ?? (names.length === 1 ? names[0] : undefined)
  const entry = chosen === undefined ? undefined : header[chosen]
  if (entry === undefined)
    throw badTensor(name, `one of its tensors behind a #: ${names.slice(0, 20).join(', ')}`, wanted ?? 'none')
  const { dtype, shape, data_offsets: offsets } = entry
  const kind = SAFETENSORS_KINDS[String(dtype)]
  if (kind === undefined)
    throw badTensor(name, `one of ${Object.keys(SAFETENSORS_KINDS).join(', ')}`, `elements of ${dtype}`)
  const begin = Array.isArray(offsets) ? Number(offsets[0]) : Number.NaN
  if (!Array.isArray(shape) || !(begin >= 0)) throw badTensor(name, 'shape and offsets in its header', 'none')
  return { kind, shape: shape.map(Number), start: 8 + length + begin }
}

function headerOf(name: string, bytes: Buffer): SafetensorsHeader {
  try {
    return JSON.parse(bytes.toString('utf8')) as SafetensorsHeader
  } catch (cause) {
    throw badTensor(name, 'a .npy or .safetensors file', 'something else', cause)
  }
}

export const badTensor = (file: string, expected: string, got: string, cause?: unknown): PeertuneError =>
  new PeertuneError('data/bad-tensor', `${file}: expected ${expected}, got ${got}`, {
    facts: { file, expected, got },
    cause
  })
