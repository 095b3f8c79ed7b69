import { PeertuneError } from '../../base/errors.js'
import type { JsonValue } from '../../base/json.js'

/**
 * Frames between a node and its trainer child: a kind, an id, a little JSON and whole typed arrays. Pure; pipe.ts puts
 * them on a stream. Both ends are on one machine, so integers and array elements are in its byte order.
 *
 *   uint32 magic | uint8 kind | uint8 payload count | uint16 zero | uint32 id | uint32 meta bytes
 *   per payload: uint32 element type (index in ELEMENT_TYPES) | uint32 bytes
 *   meta, UTF-8 JSON
 *   payloads, one behind the other
 */
export interface Frame {
  /** 0 to 255; what it means is protocol.ts's business. */
  readonly kind: number
  /** uint32; an answer carries the id of its question. */
  readonly id: number
  readonly meta: JsonValue
  readonly payloads: readonly Payload[]
}

export type Payload = Float32Array | Float64Array | Int32Array | Uint8Array

/** 1 GiB: parameters of a full fine-tuning of 250 million; beyond that a pipe is the wrong tool. */
const MAX_FRAME_BYTES = 2 ** 30
/** 16 MiB of JSON: the names and shapes of about 100,000 tensors. */
const MAX_META_BYTES = 2 ** 24
/** Parameters, labels and every graph input of a batch; models have below 10. */
const MAX_PAYLOADS = 64

const MAGIC = 0x31465450 // "PTF1" in little-endian order
const HEAD_BYTES = 16
const TABLE_ENTRY_BYTES = 8
const ELEMENT_TYPES = [Float32Array, Float64Array, Int32Array, Uint8Array] as const

export interface FrameLimits {
  readonly maxFrameBytes?: number
}

const bytesOf = (array: ArrayBufferView): Uint8Array => new Uint8Array(array.buffer, array.byteOffset, array.byteLength)

/**
 * The frame as chunks to write in order. Payloads are views, not copies: they must not change before they are written.
 * Throws `train/frame-too-large`.
 */
export function encodeFrame(frame: Frame, { maxFrameBytes = MAX_FRAME_BYTES }: FrameLimits = {}): Uint8Array[] {
  const meta = new TextEncoder().encode(JSON.stringify(frame.meta))
  const { payloads } = frame
  const front = new Uint8Array(HEAD_BYTES + TABLE_ENTRY_BYTES * payloads.length)
  const total = payloads.reduce((sum, { byteLength }) => sum + byteLength, front.length + meta.length)
  if (total > maxFrameBytes || meta.length > MAX_META_BYTES || payloads.length > MAX_PAYLOADS)
    throw new PeertuneError('train/frame-too-large', 'what should go to or from the trainer is too large', {
      facts: { bytes: total, maxBytes: maxFrameBytes, metaBytes: meta.length, payloads: payloads.length }
    })
  const words = new Uint32Array(front.buffer)
  words.set([MAGIC, 0, frame.id, meta.length])
  front.set([frame.kind, payloads.length], 4)
  payloads.forEach((array, i) => {
    words.set([elementType(array), array.byteLength], (HEAD_BYTES + TABLE_ENTRY_BYTES * i) / 4)
  })
  return [front, meta, ...payloads.map(bytesOf)]
}

const elementType = (array: Payload): number => ELEMENT_TYPES.findIndex((type) => array instanceof type)

/** Takes bytes in chunks cut anywhere; throws `train/bad-frame` at the first byte that cannot be right, and ever after. */
export type FrameDecoder = (chunk: Uint8Array) => void

/**
 * Calls `onFrame` for each whole frame. Payloads are fresh arrays, filled straight from the chunks. Nothing is
 * allocated for a payload before the frame's whole length was checked.
 */
export function createFrameDecoder(onFrame: (frame: Frame) => void, limits: FrameLimits = {}): FrameDecoder {
  const parser = parse(onFrame, limits)
  let target = nextTarget(parser)
  let filled = 0
  return (chunk) => {
    let at = 0
    for (;;) {
      const take = Math.min(target.length - filled, chunk.length - at)
      target.set(chunk.subarray(at, at + take), filled)
      filled += take
      at += take
      if (filled < target.length) return
      target = nextTarget(parser)
      filled = 0
    }
  }
}

type Parser = Generator<Uint8Array, undefined, undefined>

function nextTarget(parser: Parser): Uint8Array {
  const { value } = parser.next()
  // A generator that threw is finished: a broken stream stays broken.
  return value ?? badFrame('bytes after a broken frame', {})
}

/** Yields each buffer to be filled next; goes on when it is full. */
function* parse(onFrame: (frame: Frame) => void, { maxFrameBytes = MAX_FRAME_BYTES }: FrameLimits): Parser {
  for (;;) {
    const head = new Uint8Array(HEAD_BYTES)
    yield head
    const { kind, id, metaBytes, payloadCount } = readHead(head)
    const table = new Uint32Array((TABLE_ENTRY_BYTES / 4) * payloadCount)
    yield bytesOf(table)
    checkTable(table, metaBytes, maxFrameBytes)
    const meta = new Uint8Array(metaBytes)
    yield meta
    const payloads: Payload[] = []
    for (let i = 0; i < payloadCount; i++) {
      const bytes = new Uint8Array(table[2 * i + 1]!)
      yield bytes
      payloads.push(new ELEMENT_TYPES[table[2 * i]!]!(bytes.buffer))
    }
    onFrame({ kind, id, meta: readMeta(meta), payloads })
  }
}

function readHead(head: Uint8Array) {
  const words = new Uint32Array(head.buffer)
  const id = words[2]!
  const metaBytes = words[3]!
  const kind = head[4]!
  const payloadCount = head[5]!
  if (words[0] !== MAGIC) badFrame('no frame starts here', { expected: MAGIC, got: words[0]! })
  if (head[6] !== 0 || head[7] !== 0) badFrame('reserved bytes are set', {})
  if (payloadCount > MAX_PAYLOADS) badFrame('too many payloads', { max: MAX_PAYLOADS, got: payloadCount })
  if (metaBytes > MAX_META_BYTES) badFrame('meta is too long', { max: MAX_META_BYTES, got: metaBytes })
  return { kind, id, metaBytes, payloadCount }
}

function checkTable(table: Uint32Array, metaBytes: number, maxFrameBytes: number): void {
  let total = HEAD_BYTES + table.byteLength + metaBytes
  for (let i = 0; i < table.length; i += 2) {
    const type = ELEMENT_TYPES[table[i]!]
    const bytes = table[i + 1]!
    if (type === undefined) badFrame('unknown element type', { got: table[i]! })
    if (bytes % type.BYTES_PER_ELEMENT !== 0) badFrame('a payload ends inside an element', { bytes })
    total += bytes
  }
  if (total > maxFrameBytes) badFrame('the frame is too large', { max: maxFrameBytes, got: total })
}

function readMeta(bytes: Uint8Array): JsonValue {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes)) as JsonValue
  } catch {
    return badFrame('meta is no JSON', { bytes: bytes.length })
  }
}

function badFrame(message: string, facts: Record<string, number>): never {
  throw new PeertuneError('train/bad-frame', `on the pipe between node and trainer: ${message}`, { facts })
}
