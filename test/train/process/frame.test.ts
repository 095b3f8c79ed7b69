import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { createFrameDecoder, encodeFrame, type Frame, type Payload } from '../../../src/train/process/frame.js'

const join = (chunks: readonly Uint8Array[]): Uint8Array => new Uint8Array(Buffer.concat(chunks))

const arbitraryPayload: fc.Arbitrary<Payload> = fc.oneof(
  fc.float32Array({ maxLength: 40 }),
  fc.float64Array({ maxLength: 20 }),
  fc.int32Array({ maxLength: 40 }),
  fc.uint8Array({ maxLength: 40 })
)

const arbitraryFrame: fc.Arbitrary<Frame> = fc.record({
  kind: fc.nat(255),
  id: fc.nat(0xffff_ffff),
  meta: fc.jsonValue() as fc.Arbitrary<Frame['meta']>,
  payloads: fc.array(arbitraryPayload, { maxLength: 5 })
})

/** Cuts `bytes` at the given places, taken modulo its length. */
function cut(bytes: Uint8Array, places: readonly number[]): Uint8Array[] {
  const sorted = [0, ...places.map((place) => place % (bytes.length + 1)).sort((a, b) => a - b), bytes.length]
  return sorted.slice(1).map((end, i) => bytes.slice(sorted[i], end))
}

function decodeAll(chunks: readonly Uint8Array[], maxFrameBytes?: number): Frame[] {
  const frames: Frame[] = []
  const decode = createFrameDecoder((frame) => frames.push(frame), maxFrameBytes === undefined ? {} : { maxFrameBytes })
  for (const chunk of chunks) decode(chunk)
  return frames
}

const small: Frame = { kind: 3, id: 7, meta: { a: [1] }, payloads: [Float32Array.of(0.5, -3), Int32Array.of(-100)] }

describe('frames', () => {
  it('arrive as they were sent, wherever the stream is cut', () => {
    fc.assert(
      fc.property(
        fc.array(arbitraryFrame, { maxLength: 4 }),
        fc.array(fc.nat(), { maxLength: 30 }),
        (frames, places) => {
          const bytes = join(frames.flatMap((frame) => encodeFrame(frame)))
          const expected = frames.map((frame) => ({ ...frame, meta: JSON.parse(JSON.stringify(frame.meta)) }))
          expect(decodeAll(cut(bytes, places))).toEqual(expected)
        }
      )
    )
  })

  it('arrive byte by byte', () => {
    const bytes = join(encodeFrame(small))
    expect(decodeAll([...bytes].map((byte) => Uint8Array.of(byte)))).toEqual([small])
  })

  it('are not complete before their last byte', () => {
    const bytes = join(encodeFrame(small))
    for (let end = 0; end < bytes.length; end++) expect(decodeAll([bytes.subarray(0, end)])).toEqual([])
  })

  it('carry the bits of views into larger buffers, NaN included', () => {
    const buffer = Float32Array.of(1, NaN, -0, 9)
    const [frame] = decodeAll(encodeFrame({ ...small, payloads: [buffer.subarray(1, 3)] }))
    expect(frame?.payloads).toEqual([Float32Array.of(NaN, -0)])
  })

  it('are not copied when encoded', () => {
    const payload = Float32Array.of(1, 2)
    expect(encodeFrame({ ...small, payloads: [payload] }).at(-1)?.buffer).toBe(payload.buffer)
  })

  it('are refused when too large, on both ends', () => {
    const frame = { ...small, payloads: [new Float32Array(100)] }
    const tooLarge = expect.objectContaining({ code: 'train/frame-too-large' })
    expect(() => encodeFrame(frame, { maxFrameBytes: 400 })).toThrow(tooLarge)
    expect(() => decodeAll(encodeFrame(frame), 400)).toThrow(expect.objectContaining({ code: 'train/bad-frame' }))
    expect(() => encodeFrame({ ...small, payloads: Array(65).fill(Int32Array.of(1)) })).toThrow(tooLarge)
  })
})

describe('bytes that are no frame', () => {
  const bytes = join(encodeFrame(small))
  const broken = (change: (view: DataView) => void) => {
    const copy = bytes.slice()
    change(new DataView(copy.buffer))
    return () => decodeAll([copy])
  }
  const badFrame = expect.objectContaining({ code: 'train/bad-frame' })

  it('are refused at the first bad field', () => {
    expect(broken((view) => view.setUint8(0, 0))).toThrow(badFrame)
    expect(broken((view) => view.setUint8(6, 1))).toThrow(badFrame)
    expect(broken((view) => view.setUint8(5, 65))).toThrow(badFrame)
    expect(broken((view) => view.setUint32(16, 4, true))).toThrow(badFrame)
    expect(broken((view) => view.setUint32(20, 7, true))).toThrow(badFrame)
    expect(broken((view) => view.setUint8(32, 0))).toThrow(badFrame)
  })

  it('allocate nothing for a length nobody can have', () => {
    const before = process.memoryUsage().arrayBuffers
    expect(broken((view) => view.setUint32(12, 0xffff_fff0, true))).toThrow(badFrame)
    expect(broken((view) => view.setUint32(20, 0xffff_fff0, true))).toThrow(badFrame)
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(2 ** 20)
  })

  it('break the stream for good', () => {
    const decode = createFrameDecoder(() => undefined)
    expect(() => decode(new Uint8Array(16))).toThrow(badFrame)
    expect(() => decode(bytes)).toThrow(badFrame)
    expect(() => decode(bytes)).toThrow(badFrame)
  })

  it('never throw anything else', () => {
    fc.assert(
      fc.property(fc.nat(bytes.length - 1), fc.uint8Array({ minLength: 1, maxLength: 8 }), (at, noise) => {
        const copy = bytes.slice()
        copy.set(noise.subarray(0, copy.length - at), at)
        try {
          decodeAll([copy, copy])
        } catch (error) {
          expect(error).toEqual(badFrame)
        }
      })
    )
  })
})
