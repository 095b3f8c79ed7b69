import { PeertuneError } from '../../base/errors.js'
import type { ElementType } from './graph.js'

/** Number in ONNX `TensorProto.DataType`, and bits of one element (0: no fixed width). */
const TYPES: Readonly<Record<ElementType, { readonly code: number; readonly bits: number }>> = {
  float32: { code: 1, bits: 32 },
  uint8: { code: 2, bits: 8 },
  int8: { code: 3, bits: 8 },
  uint16: { code: 4, bits: 16 },
  int16: { code: 5, bits: 16 },
  int32: { code: 6, bits: 32 },
  int64: { code: 7, bits: 64 },
  string: { code: 8, bits: 0 },
  bool: { code: 9, bits: 8 },
  float16: { code: 10, bits: 16 },
  float64: { code: 11, bits: 64 },
  uint32: { code: 12, bits: 32 },
  uint64: { code: 13, bits: 64 },
  uint4: { code: 21, bits: 4 },
  int4: { code: 22, bits: 4 }
}

const BY_CODE: ReadonlyMap<number, ElementType> = new Map(
  Object.entries(TYPES).map(([name, { code }]) => [code, name as ElementType])
)

/** `TensorProto.DataType` of `type`. */
export const dataTypeOf = (type: ElementType): number => TYPES[type].code

/** Throws `onnx/unsupported-element-type`, naming the value. */
export function elementTypeOf(dataType: number, valueName: string): ElementType {
  const type = BY_CODE.get(dataType)
  if (type !== undefined) return type
  throw new PeertuneError('onnx/unsupported-element-type', `${valueName} has ONNX element type number ${dataType}`, {
    facts: { valueName, dataType },
    hint: `supported: ${Object.keys(TYPES).join(', ')}`
  })
}

/** Bytes of `count` elements packed one behind the other (4-bit types two to a byte). */
export const bytesOfElements = (type: ElementType, count: number): number => Math.ceil((TYPES[type].bits * count) / 8)
