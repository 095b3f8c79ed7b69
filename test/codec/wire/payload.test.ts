import { describe, expect, it } from 'vitest'
import { sha256Hex } from '../../../src/base/bytes.js'
import {
  MAX_PAYLOAD_BYTES,
  PAYLOAD_CHUNK_BYTES,
  payloadAssembler,
  payloadChunks,
  payloadHeader
} from '../../../src/codec/wire/payload.js'

const bytes = (length: number): Uint8Array => Uint8Array.from({ length }, (_, i) => (i * 31) % 251)

const assemblerFor = (payload: Uint8Array) => {
  const result = payloadAssembler(payloadHeader(payload), { bytes: payload.length })
  if (!result.ok) throw new Error(JSON.stringify(result.verdict))
  return result.value
}

describe('payload frames', () => {
  it.each([1, 1000, PAYLOAD_CHUNK_BYTES, PAYLOAD_CHUNK_BYTES + 1, 3 * PAYLOAD_CHUNK_BYTES - 5])(
    'put %d bytes together again, whole only with the last frame',
    (length) => {
      const payload = bytes(length)
      const chunks = [...payloadChunks(payload)]
      const assembler = assemblerFor(payload)
      const results = chunks.map((chunk) => assembler.add(chunk))
      results.slice(0, -1).forEach((result) => {
        expect(result).toEqual({ ok: true, value: undefined })
      })
      const last = results.at(-1)!
      expect(last.ok && last.value && sha256Hex(last.value)).toBe(payloadHeader(payload).sha256)
    }
  )

  it('makes no room for a length other than the expected one', () => {
    const header = { sizeBytes: 2 ** 32 - 1, sha256: '' }
    expect(payloadAssembler(header, { bytes: 1000 })).toMatchObject({ ok: false, verdict: { code: 'codec/too-large' } })
    expect(payloadAssembler({ ...header, sizeBytes: 999 }, { bytes: 1000 })).toMatchObject({
      ok: false,
      verdict: { verdict: 'reject', code: 'codec/wrong-length' }
    })
    expect(payloadAssembler({ ...header, sizeBytes: MAX_PAYLOAD_BYTES + 1 }, { bytes: MAX_PAYLOAD_BYTES + 1 }).ok).toBe(
      false
    )
  })

  it("takes any length up to the bound where the codec's length varies", () => {
    const bound = { bytes: 1000, variableLength: true }
    for (const [sizeBytes, ok] of [
      [0, false],
      [1, true],
      [1000, true],
      [1001, false]
    ] as const)
      expect(payloadAssembler({ sizeBytes, sha256: '' }, bound).ok).toBe(ok)
  })

  it('refuses an empty, a short and a long frame', () => {
    const payload = bytes(PAYLOAD_CHUNK_BYTES + 10)
    for (const length of [0, 11, PAYLOAD_CHUNK_BYTES + 1])
      expect(assemblerFor(payload).add(bytes(length))).toMatchObject({
        ok: false,
        verdict: { code: 'codec/wrong-length' }
      })
    const nearlyDone = assemblerFor(payload)
    nearlyDone.add(payload.subarray(0, PAYLOAD_CHUNK_BYTES))
    expect(nearlyDone.add(bytes(11)).ok).toBe(false)
  })
})
