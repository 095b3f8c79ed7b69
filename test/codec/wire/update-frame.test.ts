import { createHash } from 'node:crypto'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { GENESIS, type UpdateFields } from '../../../src/codec/wire/update.js'
import {
  decodeSigned,
  decodeUpdateFrame,
  encodeSigned,
  encodeUpdateBody,
  encodeUpdateFrame,
  MAX_UPDATE_FRAME_BYTES,
  readUpdate,
  UPDATE_OVERHEAD_BYTES
} from '../../../src/codec/wire/update-frame.js'
import { runs } from '../../counts.js'

const fields: UpdateFields = {
  federation: 'a'.repeat(64),
  schema: 'b'.repeat(64),
  author: '12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp',
  sequence: 7,
  previous: 'c'.repeat(64),
  samples: 300,
  totalSamples: 2 ** 40,
  payload: Uint8Array.from({ length: 100 }, (_, i) => i)
}
const MOST = 1 << 20
const signature = new Uint8Array(64).fill(9)

function updateOf(changes: Partial<UpdateFields> = {}) {
  const read = readUpdate({ body: encodeUpdateBody({ ...fields, ...changes }), signature }, MOST)
  if (!read.ok) throw new Error(JSON.stringify(read.verdict))
  return read.value
}

describe('an update on the wire', () => {
  it('comes back as it was written, named by the SHA-256 of the bytes that were signed', () => {
    const update = updateOf()
    expect(update).toMatchObject(fields)
    expect(update.hash).toBe(createHash('sha256').update(update.body).digest('hex'))
    expect(decodeSigned(encodeSigned(update), MOST)).toEqual({ ok: true, value: update })
    expect(update.body.length - fields.payload.length).toBeLessThan(UPDATE_OVERHEAD_BYTES)
    expect(updateOf({ sequence: 1, previous: GENESIS }).previous).toBe(GENESIS)
  })

  it('is published whole up to 64 KiB, and as a notice of its hash and size beyond', () => {
    const small = updateOf({ payload: new Uint8Array(65_000) })
    const large = updateOf({ payload: new Uint8Array(66_000) })
    const whole = encodeUpdateFrame(small)
    expect(whole.length).toBeGreaterThan(65_000)
    const read = decodeUpdateFrame(whole)
    expect(read.ok && read.value.type === 'update' && read.value.update.hash).toBe(small.hash)
    const notice = encodeUpdateFrame(large)
    expect(notice.length).toBeLessThan(200)
    expect(decodeUpdateFrame(notice)).toEqual({
      ok: true,
      value: {
        type: 'notice',
        notice: { federation: fields.federation, sequence: 7, hash: large.hash, sizeBytes: large.body.length }
      }
    })
  })

  it('is refused with a code where its bytes are nothing of the kind', () => {
    const update = updateOf()
    const coded = (read: ReturnType<typeof decodeSigned>) =>
      read.ok || read.verdict.verdict === 'accept' ? 'ok' : read.verdict.code
    expect(coded(decodeSigned(encodeSigned(update), 99))).toBe('codec/too-large')
    expect(coded(readUpdate({ body: update.body, signature: signature.subarray(1) }, MOST))).toBe('codec/malformed')
    for (const author of ['', 'a b', '../../etc', 'x'.repeat(65)])
      expect(coded(readUpdate({ body: encodeUpdateBody({ ...fields, author }), signature }, MOST))).toBe(
        'codec/malformed'
      )
    expect(decodeUpdateFrame(new Uint8Array(MAX_UPDATE_FRAME_BYTES + 1))).toMatchObject({
      ok: false,
      verdict: { code: 'codec/too-large' }
    })
    // Field 1, the version, is 1; wire version 2 begins the bytes with 08 02.
    const newer = Uint8Array.from(update.body)
    newer[1] = 2
    expect(coded(readUpdate({ body: newer, signature }, MOST))).toBe('codec/unsupported-version')
  })

  it('never throws for any bytes', () => {
    const good = encodeUpdateFrame(updateOf())
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), fc.nat(good.length - 1), fc.nat(255), (bytes, at, value) => {
        const bent = good.slice()
        bent[at] = value
        for (const one of [bytes, bent, good.subarray(0, at)])
          for (const read of [decodeUpdateFrame(one), decodeSigned(one, MOST)])
            if (!read.ok) expect(read.verdict).toMatchObject({ verdict: 'reject' })
      }),
      { numRuns: runs(500) }
    )
  })
})
