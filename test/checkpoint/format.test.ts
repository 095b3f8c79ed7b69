import { createHash } from 'node:crypto'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { decodeCheckpoint, encodeCheckpoint, SLICE_BYTES } from '../../src/checkpoint/format.js'
import type { NodeState } from '../../src/checkpoint/state.js'
import { IDENTITY, stateAt } from './states.js'

const encoded = (state: NodeState): Buffer => Buffer.concat([...encodeCheckpoint(state)])

/** The same bytes with a right checksum: what a careful liar would write. */
const resealed = (bytes: Buffer): Buffer => {
  const body = bytes.subarray(0, -32)
  return Buffer.concat([body, createHash('sha256').update(body).digest()])
}

const codeOf = (bytes: Uint8Array, expected = IDENTITY): string => {
  const outcome = decodeCheckpoint(bytes, expected)
  return outcome.ok ? 'ok' : outcome.error.code
}

describe('a checkpoint', () => {
  it('gives back the state it was made of', () => {
    const state = stateAt(5)
    expect(decodeCheckpoint(encoded(state), IDENTITY)).toEqual({ ok: true, state })
  })

  it('gives back every bit of every vector', () => {
    const bits = fc.uint32Array({ minLength: 3, maxLength: 3 }).map(({ buffer }) => new Float32Array(buffer))
    const bytesOf = (vector: Float32Array) => Buffer.from(vector.buffer).toString('hex')
    fc.assert(
      fc.property(bits, bits, bits, fc.dictionary(fc.string(), bits, { maxKeys: 3 }), (parameters, m, v, inDoubt) => {
        const state = { ...stateAt(2), parameters, adam: { m, v, step: 2 }, inDoubt }
        const outcome = decodeCheckpoint(encoded(state), IDENTITY)
        if (!outcome.ok) throw outcome.error
        expect(bytesOf(outcome.state.parameters)).toBe(bytesOf(parameters))
        expect(bytesOf(outcome.state.adam.m)).toBe(bytesOf(m))
        expect(bytesOf(outcome.state.adam.v)).toBe(bytesOf(v))
        expect(Object.keys(outcome.state.inDoubt)).toEqual(Object.keys(inDoubt))
        for (const [id, vector] of Object.entries(inDoubt))
          expect(bytesOf(outcome.state.inDoubt[id]!)).toBe(bytesOf(vector))
      })
    )
  })

  it('has the layout that its description gives', () => {
    const bytes = encoded({ ...stateAt(1, 2), parameters: Float32Array.of(0.5, -3), inDoubt: {} })
    expect(bytes.subarray(0, 8).toString()).toBe('PTCHKPT\n')
    expect(bytes.readUInt32LE(8)).toBe(1)
    const manifestBytes = bytes.readUInt32LE(12)
    expect(JSON.parse(bytes.toString('utf8', 16, 16 + manifestBytes))).toMatchObject({ step: 1, size: 2, inDoubt: [] })
    expect(bytes.readFloatLE(16 + manifestBytes)).toBe(0.5)
    expect(bytes.readFloatLE(20 + manifestBytes)).toBe(-3)
    expect(bytes.length).toBe(16 + manifestBytes + 3 * 2 * 4 + 32)
    expect(resealed(bytes).equals(bytes)).toBe(true)
  })

  it('takes vectors that are views into larger buffers', () => {
    const parameters = Float32Array.of(9, 0.5, -3, 9).subarray(1, 3)
    const outcome = decodeCheckpoint(encoded({ ...stateAt(1, 2), parameters }), IDENTITY)
    expect(outcome).toMatchObject({ ok: true, state: { parameters: Float32Array.of(0.5, -3) } })
  })

  it('is made in slices that leave others their turn', () => {
    const slices = [...encodeCheckpoint(stateAt(1, 600_000))]
    expect(Math.max(...slices.map(({ length }) => length))).toBe(SLICE_BYTES)
    expect(slices.length).toBeGreaterThan(5 * 2)
  })

  it('cannot be made of vectors of unequal length', () => {
    expect(() => encodeCheckpoint({ ...stateAt(1, 4), inDoubt: { x: new Float32Array(3) } })).toThrow(
      expect.objectContaining({ code: 'checkpoint/wrong-length', facts: { expected: 4, got: 3 } })
    )
  })
})

describe('a checkpoint of no use', () => {
  const bytes = encoded(stateAt(4))

  it('is corrupt when cut off anywhere', () => {
    for (let end = 0; end < bytes.length; end++) expect(codeOf(bytes.subarray(0, end))).toBe('checkpoint/corrupt')
  })

  it('is corrupt when something was added', () => {
    expect(codeOf(Buffer.concat([bytes, Buffer.of(0)]))).toBe('checkpoint/corrupt')
  })

  it('is corrupt when any bit but those of the version is flipped', () => {
    fc.assert(
      fc.property(fc.nat(bytes.length - 1), fc.nat(7), (at, bit) => {
        const copy = Buffer.from(bytes)
        copy[at]! ^= 1 << bit
        expect(codeOf(copy)).toBe(at >= 8 && at < 12 ? 'checkpoint/unsupported-version' : 'checkpoint/corrupt')
      })
    )
  })

  it('is corrupt when its lengths lie, whatever its checksum says', () => {
    const lie = (change: (copy: Buffer) => void) => {
      const copy = Buffer.from(bytes)
      change(copy)
      return codeOf(resealed(copy))
    }
    const text = (from: string, to: string) => (copy: Buffer) => copy.write(to, copy.indexOf(from), 'latin1')
    expect(lie((copy) => copy.writeUInt32LE(0xffff_fff0, 12))).toBe('checkpoint/corrupt')
    expect(lie((copy) => copy.writeUInt32LE(8, 12))).toBe('checkpoint/corrupt')
    expect(lie(text('"size":7', '"size":8'))).toBe('checkpoint/corrupt')
    expect(lie(text('"size":7', '"siz_":7'))).toBe('checkpoint/corrupt')
    expect(lie(text('"another"', '"x4","x5"'))).toBe('checkpoint/corrupt')
    expect(lie(text('"exchanges":12', '"exchanges":-2'))).toBe('checkpoint/corrupt')
    expect(lie(() => undefined)).toBe('ok')
  })

  it('allocates nothing for a size nobody can have', () => {
    const manifestBytes = bytes.readUInt32LE(12)
    const manifest = JSON.parse(bytes.toString('utf8', 16, 16 + manifestBytes)) as object
    const json = Buffer.from(JSON.stringify({ ...manifest, size: 2 ** 50 }))
    const head = Buffer.from(bytes.subarray(0, 16))
    head.writeUInt32LE(json.length, 12)
    const liar = resealed(Buffer.concat([head, json, bytes.subarray(16 + manifestBytes)]))
    expect(codeOf(liar)).toBe('checkpoint/corrupt')
  })

  it('says which federation or parameters it is of', () => {
    expect(codeOf(bytes, { ...IDENTITY, federationHash: 'other' })).toBe('checkpoint/other-federation')
    expect(codeOf(bytes, { ...IDENTITY, schemaHash: 'other' })).toBe('checkpoint/other-schema')
    const outcome = decodeCheckpoint(bytes, { ...IDENTITY, federationHash: 'other' })
    expect(outcome).toMatchObject({ error: { facts: { expected: 'other', got: IDENTITY.federationHash } } })
  })
})
