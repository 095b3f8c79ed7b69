import type { Stream } from '@libp2p/interface'
import type { Clock } from '../../src/base/clock.js'
import { sha256Hex } from '../../src/base/bytes.js'
import { seededRng } from '../../src/base/rng.js'
import type { Decoded } from '../../src/base/verdict.js'
import { decoded, refused } from '../../src/base/verdict.js'
import type { VectorCodec } from '../../src/codec/codec.js'
import type { Announcement, ExchangeMessage } from '../../src/codec/wire/messages.js'
import { payloadBound, payloadHeader } from '../../src/codec/wire/payload.js'
import { CODEC_NAMES, codecByName } from '../../src/codec/registry.js'
import {
  decodeAnnouncement,
  decodeExchangeMessage,
  encodeAnnouncement,
  encodeExchangeMessage,
  MAX_MESSAGE_BYTES
} from '../../src/codec/wire/wire.js'
import { createFrameBudget } from '../../src/gossip/frame-budget.js'
import { decodeHello, encodeHello } from '../../src/gossip/hello.js'
import { streamChannel } from '../../src/gossip/libp2p/channel.js'
import { readMessage } from '../../src/node/pairwise/channel.js'
import { createSchema } from '../../src/tensor/schema.js'
import { BROADCAST_TARGETS } from './fuzz-broadcast.js'
import { MAX_FUZZ_BYTES } from './fuzz-frames.js'
import { type FuzzTarget, MESSAGE_BYTES, sameAgain } from './fuzz-target.js'

/** Two pairs of factors of unequal shapes, a matrix and a bias: 297 elements, more than one block. */
const SCHEMA = createSchema([
  { name: 'q.lora_A.weight', shape: [4, 24] },
  { name: 'q.lora_B.weight', shape: [20, 4] },
  { name: 'v.lora_A.weight', shape: [2, 9] },
  { name: 'v.lora_B.weight', shape: [11, 2] },
  { name: 'head.weight', shape: [5, 15] },
  { name: 'head.bias', shape: [6] }
])
const EXCHANGE_ID = '00112233445566778899aabbccddeeff'
const hash = (digit: string): string => digit.repeat(64)

function vector(...seed: readonly (string | number)[]): Float32Array {
  const rng = seededRng('fuzz', ...seed)
  return Float32Array.from({ length: SCHEMA.size }, () => rng.uniform() - 0.5)
}

const INT8 = codecByName('int8')
const SIDE = INT8.encode(vector('side'), seededRng('side'))

const HELLO: ExchangeMessage = {
  type: 'hello',
  exchangeId: EXCHANGE_ID,
  federation: hash('a'),
  schema: hash('b'),
  phase: 'training',
  weight: 300,
  codec: 'int8',
  gamma: 0.5,
  reference: { hash: hash('c'), sequence: 17 },
  radius: 0.25
}
const ACCEPT: ExchangeMessage = {
  type: 'accept',
  exchangeId: EXCHANGE_ID,
  phase: 'settling',
  weight: 70_000,
  payload: payloadHeader(SIDE)
}
const COMMIT: ExchangeMessage = { type: 'commit', exchangeId: EXCHANGE_ID, payload: payloadHeader(SIDE) }
const MESSAGES: readonly ExchangeMessage[] = [
  HELLO,
  ACCEPT,
  COMMIT,
  { type: 'refuse', exchangeId: EXCHANGE_ID, code: 'busy' },
  { type: 'ack', exchangeId: EXCHANGE_ID },
  { type: 'resolve', exchangeId: EXCHANGE_ID },
  { type: 'resolution', exchangeId: EXCHANGE_ID, fate: 'undone' }
]
const ANNOUNCEMENT: Announcement = {
  federation: hash('a'),
  sequence: 1_790_000_000_123,
  step: 400,
  phase: 'settling',
  loss: 2.75,
  samples: 1200,
  exchanges: 37,
  bytesSent: 5_000_000_000,
  bytesReceived: 4_999_999_999,
  software: 'peertune/0.1.0',
  label: 'Käthe'
}

const onlyFinite = (value: unknown): string | undefined =>
  (value as Float32Array).every(Number.isFinite) ? undefined : 'a number that is not finite'

/** Scales, indices, values and the vector itself, each at most one float64 an element. */
const VECTOR_BYTES = 8 * 8 * SCHEMA.size + 4 * MAX_FUZZ_BYTES

const messageTargets: readonly FuzzTarget[] = [
  {
    name: 'exchange-message',
    seeds: MESSAGES.map(encodeExchangeMessage),
    mostBytes: MESSAGE_BYTES,
    decode: decodeExchangeMessage,
    flaw: sameAgain(encodeExchangeMessage, decodeExchangeMessage)
  },
  {
    name: 'announcement',
    seeds: [encodeAnnouncement(ANNOUNCEMENT), encodeAnnouncement({ ...ANNOUNCEMENT, label: '', samples: 0 })],
    mostBytes: MESSAGE_BYTES,
    decode: decodeAnnouncement,
    flaw: sameAgain(encodeAnnouncement, decodeAnnouncement)
  },
  {
    name: 'hello',
    seeds: [encodeHello({ federation: hash('f'), version: '0.1.0', name: 'Käthe' })],
    mostBytes: MESSAGE_BYTES,
    decode: decodeHello,
    flaw: sameAgain(encodeHello, decodeHello)
  }
]

const codecTargets = (codec: VectorCodec): readonly FuzzTarget[] => {
  const seeds = [0, 1, 2].map((turn) => codec.encode(vector(codec.name, turn), seededRng(turn), vector('reference')))
  const stateless: FuzzTarget = {
    name: `payload ${codec.name}`,
    seeds,
    mostBytes: VECTOR_BYTES,
    decode: (frame) => codec.decode(frame, SCHEMA.size),
    flaw: onlyFinite
  }
  const { edge } = codec
  if (edge === undefined) return [stateless]
  const start = edge.begin(vector('start'))
  const memory = edge.next(start, vector('own'), vector('partner'))
  return [
    stateless,
    {
      name: `edge ${codec.name}`,
      seeds: [0, 1, 2].map((turn) => edge.encode(vector(codec.name, turn), memory, seededRng(turn))),
      mostBytes: VECTOR_BYTES + 4 * 8 * SCHEMA.size,
      // May overflow: the machine refuses the increment then.
      decode: (frame) => edge.decode(frame, memory, 'partner')
    }
  ]
}

/** Time stands still: what is tested is never waited for. */
const NO_TIME: Clock = {
  now: () => 0,
  sleep: (_, signal) =>
    new Promise((_resolve, reject) => {
      signal?.addEventListener('abort', () => reject(signal.reason), { once: true })
    })
}

/** A stream that brings these bytes in pieces and takes whatever is sent. */
const streamOf = (bytes: Uint8Array): Stream =>
  ({
    status: 'open',
    readStatus: 'ready',
    source: (async function* () {
      for (let at = 0, piece = 1; at < bytes.length; at += piece, piece *= 3) yield bytes.subarray(at, at + piece)
    })(),
    sink: async (source: AsyncIterable<unknown>) => {
      for await (const _ of source);
    },
    abort: () => undefined
  }) as unknown as Stream

/** Unsigned LEB128, as it-length-prefixed puts it in front of a frame. */
const prefixed = (frame: Uint8Array): Uint8Array =>
  frame.length < 128
    ? Uint8Array.of(frame.length, ...frame)
    : Uint8Array.of((frame.length & 0x7f) | 0x80, frame.length >> 7, ...frame)

const conversation = (...frames: readonly Uint8Array[]): Uint8Array =>
  Uint8Array.from(Buffer.concat(frames.map(prefixed)))

/** Messages read from one stream before it is left alone. */
const MAX_MESSAGES = 8

/** Raw bytes of a stream through length prefixes, messages and payloads, as a node reads them. */
async function readConversation(bytes: Uint8Array): Promise<Decoded<unknown>> {
  const budget = createFrameBudget()
  const channel = streamChannel('peer', streamOf(bytes), { maxFrameBytes: 1 << 20, budget, clock: NO_TIME })
  const options = { payload: payloadBound(INT8, SCHEMA.size), timeoutMs: 1, onBytes: () => undefined }
  const seen: string[] = []
  for (let messages = 0; messages < MAX_MESSAGES; messages++) {
    const incoming = await readMessage(channel, options)
    if (incoming.kind === 'unreadable') channel.abort(new Error('unreadable'))
    if (incoming.kind === 'unreadable') return budget.reserved() === 0 ? refused(incoming.verdict) : leaked(budget)
    if (incoming.kind === 'end') return budget.reserved() === 0 ? decoded(seen) : leaked(budget)
    const { payload } = incoming
    seen.push(payload === undefined ? incoming.message.type : `${incoming.message.type} ${sha256Hex(payload)}`)
  }
  return decoded(seen)
}

function leaked(budget: { reserved(): number }): never {
  throw new Error(`${budget.reserved()} bytes of the frame budget were never given back`)
}

const streamTarget: FuzzTarget = {
  name: 'exchange-stream',
  seeds: [
    conversation(encodeExchangeMessage(HELLO), encodeExchangeMessage(COMMIT), SIDE),
    conversation(encodeExchangeMessage(ACCEPT), SIDE, encodeExchangeMessage({ type: 'ack', exchangeId: EXCHANGE_ID })),
    conversation(...MESSAGES.slice(3).map(encodeExchangeMessage))
  ],
  // A payload is made room for once it is exactly as long as agreed; messages are small.
  mostBytes: MAX_MESSAGES * (INT8.encodedBytes(SCHEMA.size) + MAX_MESSAGE_BYTES) + 8 * MAX_FUZZ_BYTES,
  decode: readConversation
}

/** Every decoder that bytes of a stranger reach. */
export const FUZZ_TARGETS: readonly FuzzTarget[] = [
  streamTarget,
  ...messageTargets,
  ...BROADCAST_TARGETS,
  ...CODEC_NAMES.flatMap((name) => codecTargets(codecByName(name, { schema: SCHEMA })))
]
