import { describe, expect, it } from 'vitest'
import type { Batch } from '../../../src/data/batches/batch.js'
import { createFrameDecoder, encodeFrame, type Frame } from '../../../src/train/process/frame.js'
import {
  parseReply,
  parseRequest,
  type Reply,
  replyFrame,
  type Request,
  requestFrame
} from '../../../src/train/process/protocol.js'

/** Through bytes and back. */
function sent(frame: Frame): Frame {
  let received: Frame | undefined
  const decode = createFrameDecoder((frame) => {
    received = frame
  })
  for (const chunk of encodeFrame(frame)) decode(chunk)
  return received!
}

const batch = (data: Int32Array | Float32Array): Batch => ({
  inputs: { x: { type: 'float32', shape: [3, 1], data: Float32Array.of(1, 2.5, -3) } },
  labels: { shape: [3], data }
})

describe('between node and trainer', () => {
  it.each([Int32Array.of(0, -100, 2), Float32Array.of(0.5, Number.NaN, -2)])(
    'labels stay what they are: %s',
    (labels) => {
      const request: Request = { kind: 'evaluate', parameters: Float32Array.of(7), batch: batch(labels) }
      const received = parseRequest(sent(requestFrame(request, 3)))
      expect(received).toEqual(request)
      expect('batch' in received && received.batch.labels.data.constructor).toBe(labels.constructor)
    }
  )

  it.each([
    undefined,
    { count: 3, predicted: 0.1, label: 1e9, predictedSquares: 2.5, labelSquares: 3.25, products: -4 }
  ])('a measurement comes whole, with moments or without: %j', (moments) => {
    const result = { lossSum: 1.5, count: 3, correct: 0, ...(moments && { moments }) }
    const reply: Reply = { kind: 'evaluated', result, peakMb: 99 }
    expect(parseReply(sent(replyFrame(reply, 5)))).toEqual(reply)
  })

  it('moments of another number are no message', () => {
    const [sums, short] = [Float64Array.of(1, 2, 3, 4), Float64Array.of(1, 2)]
    const { kind } = replyFrame({ kind: 'evaluated', result: { lossSum: 0, count: 0, correct: 0 }, peakMb: 0 }, 1)
    expect(() => parseReply({ kind, id: 1, meta: null, payloads: [sums, short] })).toThrowError(
      expect.objectContaining({ code: 'train/bad-message' })
    )
  })
})
