import { PeertuneError } from '../../base/errors.js'
import { shapeSize, type Shape } from '../../tensor/schema.js'
import type { Initializer, ValueInfo } from './graph.js'

/** Makers and readers of small constant tensors. ONNX raw data is little endian, as is every machine Node 20 runs on. */

const bytesOf = (array: ArrayBufferView): Uint8Array => new Uint8Array(array.buffer, array.byteOffset, array.byteLength)

/** float32 constant; a number makes a scalar (shape []). Keeps a view of `values`, not a copy. */
export function floatConstant(
  name: string,
  values: Float32Array | readonly number[] | number,
  shape?: Shape
): Initializer {
  const array =
    values instanceof Float32Array ? values : Float32Array.from(typeof values === 'number' ? [values] : values)
  const dims = shape ?? (typeof values === 'number' ? [] : [array.length])
  return { name, type: 'float32', shape: dims, data: { kind: 'inline', bytes: bytesOf(array) } }
}

/** int64 constant, the type of ONNX shapes, axes and indices; a number makes a scalar (shape []). */
export function intConstant(name: string, values: readonly number[] | number, shape?: Shape): Initializer {
  const array = BigInt64Array.from((typeof values === 'number' ? [values] : values).map(BigInt))
  const dims = shape ?? (typeof values === 'number' ? [] : [array.length])
  return { name, type: 'int64', shape: dims, data: { kind: 'inline', bytes: bytesOf(array) } }
}

/** bool constant, one byte an element. */
export function boolConstant(name: string, values: readonly boolean[], shape: Shape = [values.length]): Initializer {
  return { name, type: 'bool', shape, data: { kind: 'inline', bytes: Uint8Array.from(values, Number) } }
}

interface PoolParts {
  /** Of the graph that is being made: a new constant goes into both. */
  readonly initializers: Map<string, Initializer>
  readonly values: Map<string, ValueInfo>
  fresh(hint: string): string
}

/** Equal constants of a graph are one initializer: `key` says what it is, `make` makes the first of its kind. */
export function createConstantPool({ initializers, values, fresh }: PoolParts) {
  const names = new Map<string, string>()
  return (key: string, make: (name: string) => Initializer): string => {
    const known = names.get(key)
    if (known !== undefined) return known
    const initializer = make(fresh('constant'))
    const { name, type, shape } = initializer
    initializers.set(name, initializer)
    values.set(name, { name, type, shape })
    names.set(key, name)
    return name
  }
}

/** A copy with its own, aligned buffer, since raw data may start at any byte. Throws `onnx/not-inline`. */
function alignedBytes(initializer: Initializer): ArrayBuffer {
  if (initializer.data.kind !== 'inline')
    throw new PeertuneError('onnx/not-inline', `constant ${initializer.name} is in a file beside the model`, {
      facts: { name: initializer.name, location: initializer.data.location }
    })
  // The constructor copies; a Node Buffer's slice() would not.
  return new Uint8Array(initializer.data.bytes).buffer
}

const wrongType = (initializer: Initializer, wanted: string): PeertuneError =>
  new PeertuneError('onnx/wrong-constant-type', `constant ${initializer.name} is ${initializer.type}, not ${wanted}`, {
    facts: { name: initializer.name, got: initializer.type, wanted }
  })

/** Values of an inline float constant (float32, float64), as doubles. Throws `onnx/wrong-constant-type`. */
export function floatValues(initializer: Initializer): number[] {
  if (initializer.type === 'float32') return Array.from(new Float32Array(alignedBytes(initializer)))
  if (initializer.type === 'float64') return Array.from(new Float64Array(alignedBytes(initializer)))
  throw wrongType(initializer, 'a float')
}

/** Values of an inline integer or bool constant as numbers. Throws `onnx/wrong-constant-type`. */
export function intValues(initializer: Initializer): number[] {
  const bytes = alignedBytes(initializer)
  if (initializer.type === 'int64') return Array.from(new BigInt64Array(bytes), Number)
  if (initializer.type === 'int32') return Array.from(new Int32Array(bytes))
  if (initializer.type === 'bool' || initializer.type === 'uint8') return Array.from(new Uint8Array(bytes))
  throw wrongType(initializer, 'an integer')
}

/** The one value of a scalar or one-element float constant, otherwise undefined. */
export const scalarValue = (initializer: Initializer | undefined): number | undefined =>
  initializer !== undefined &&
  shapeSize(initializer.shape) === 1 &&
  initializer.data.kind === 'inline' &&
  (initializer.type === 'float32' || initializer.type === 'float64')
    ? floatValues(initializer)[0]
    : undefined
