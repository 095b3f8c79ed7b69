import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { floatsOf, intsOf, readSafetensors, writeSafetensors } from '../../src/tensor/safetensors.js'

const file = (header: string, data: Uint8Array = new Uint8Array()): Uint8Array => {
  const json = new TextEncoder().encode(header)
  const bytes = new Uint8Array(8 + json.length + data.length)
  new DataView(bytes.buffer).setBigUint64(0, BigInt(json.length), true)
  bytes.set(json, 8)
  bytes.set(data, 8 + json.length)
  return bytes
}

describe('safetensors', () => {
  it('what is written reads back, by name and bit for bit', () => {
    const tensor = fc.record({
      name: fc.string({ minLength: 1 }).filter((name) => name !== '__metadata__' && name !== '__proto__'),
      data: fc.float32Array({ maxLength: 20 })
    })
    fc.assert(
      fc.property(fc.uniqueArray(tensor, { selector: ({ name }) => name, maxLength: 6 }), (tensors) => {
        const named = tensors.map(({ name, data }) => ({ name, shape: [data.length], data }))
        const read = readSafetensors(writeSafetensors(named))
        expect(read.size).toBe(named.length)
        for (const { name, shape, data } of named) {
          const entry = read.get(name)
          expect(entry?.shape).toEqual(shape)
          expect(floatsOf(entry as never)).toEqual(data)
        }
      })
    )
  })

  it('has the layout of the specification: header padded to 8, names sorted, framework named', () => {
    const bytes = writeSafetensors([
      { name: 'b', shape: [1, 2], data: Float32Array.of(0.5, -3) },
      { name: 'a', shape: [1], data: Float32Array.of(2) }
    ])
    const length = Number(new DataView(bytes.buffer).getBigUint64(0, true))
    expect(length % 8).toBe(0)
    expect(JSON.parse(new TextDecoder().decode(bytes.subarray(8, 8 + length)))).toEqual({
      __metadata__: { format: 'pt' },
      a: { dtype: 'F32', shape: [1], data_offsets: [0, 4] },
      b: { dtype: 'F32', shape: [1, 2], data_offsets: [4, 12] }
    })
    expect(Array.from(bytes.subarray(8 + length, 12 + length))).toEqual([0, 0, 0, 0x40])
  })

  it('reads 64-bit integers and floats', () => {
    const header =
      '{"i":{"dtype":"I64","shape":[2],"data_offsets":[0,16]},"d":{"dtype":"F64","shape":[],"data_offsets":[16,24]}}'
    const data = new Uint8Array(24)
    const view = new DataView(data.buffer)
    view.setBigInt64(0, -100n, true)
    view.setBigInt64(8, 7n, true)
    view.setFloat64(16, 0.1, true)
    const read = readSafetensors(file(header, data))
    expect(intsOf(read.get('i') as never)).toEqual(Int32Array.of(-100, 7))
    expect(floatsOf(read.get('d') as never)).toEqual(Float64Array.of(0.1))
    expect(() => floatsOf(read.get('i') as never, 'i')).toThrowError(/I64/)
    expect(() => intsOf(read.get('d') as never, 'd')).toThrowError(/F64/)
  })

  it.each([
    ['empty', new Uint8Array()],
    ['a header longer than the file', Uint8Array.of(255, 0, 0, 0, 0, 0, 0, 0, 123)],
    ['a header of astronomic length', new Uint8Array(16).fill(255)],
    ['no JSON', file('hello')],
    ['an unknown type', file('{"a":{"dtype":"F8","shape":[1],"data_offsets":[0,1]}}', new Uint8Array(1))],
    ['offsets beyond the data', file('{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}', new Uint8Array(4))],
    [
      'bytes that do not fit the shape',
      file('{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}', new Uint8Array(8))
    ],
    ['negative offsets', file('{"a":{"dtype":"F32","shape":[1],"data_offsets":[-4,0]}}', new Uint8Array(4))],
    ['an entry that is no object', file('{"a":null}')]
  ])('refuses %s', (_what, bytes) => {
    expect(() => readSafetensors(bytes, 'a.safetensors')).toThrowError(
      expect.objectContaining({ code: 'tensor/not-safetensors' })
    )
  })
})
