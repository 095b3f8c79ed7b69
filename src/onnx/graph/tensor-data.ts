import { PeertuneError } from '../../base/errors.js'
import { bytesOfElements } from './element-type.js'
import type { ElementType } from './graph.js'
import type { TensorProto } from './onnx_pb.js'

const bytesOf = (array: ArrayBufferView): Uint8Array => new Uint8Array(array.buffer, array.byteOffset, array.byteLength)

export interface Elements {
  readonly type: ElementType
  readonly count: number
}

/**
 * The elements of an inline tensor as little-endian raw data. `raw_data` is returned as it lies; the typed fields of
 * the ONNX specification (narrow types ride in `int32_data`, uint32 in `uint64_data`) are packed.
 * Throws `onnx/not-a-model` when the byte count does not fit the shape.
 */
export function rawBytesOf(tensor: TensorProto, { type, count }: Elements, file: string): Uint8Array {
  const bytes = tensor.rawData.length > 0 ? tensor.rawData : packTyped(tensor, type)
  const expected = bytesOfElements(type, count)
  if (type !== 'string' && bytes.length !== expected)
    throw new PeertuneError('onnx/not-a-model', `${file}: tensor ${tensor.name} has ${bytes.length} bytes of data`, {
      facts: { file, tensor: tensor.name, got: bytes.length, expected },
      hint: 'the file is damaged, or its weights are in another file that it does not name'
    })
  return bytes
}

function packTyped(tensor: TensorProto, type: ElementType): Uint8Array {
  const { floatData, doubleData, int32Data, int64Data, uint64Data } = tensor
  switch (type) {
    case 'float32':
      return bytesOf(Float32Array.from(floatData))
    case 'float64':
      return bytesOf(Float64Array.from(doubleData))
    case 'int64':
      return bytesOf(BigInt64Array.from(int64Data))
    case 'uint64':
      return bytesOf(BigUint64Array.from(uint64Data))
    case 'uint32':
      return bytesOf(Uint32Array.from(uint64Data, Number))
    case 'int32':
      return bytesOf(Int32Array.from(int32Data))
    case 'float16':
    case 'uint16':
    case 'int16':
      return bytesOf(Uint16Array.from(int32Data))
    case 'string':
      return new Uint8Array()
    default:
      // bool, int8, uint8 and the packed pairs of int4 and uint4: one byte each.
      return Uint8Array.from(int32Data)
  }
}
