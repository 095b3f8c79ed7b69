import type { MessageInitShape } from '@bufbuild/protobuf'
import { create, toBinary } from '@bufbuild/protobuf'
import type { Decoded } from '../../base/verdict.js'
import type { CodecVerdictCode } from '../codec.js'
import type {
  Announcement,
  EdgeReference,
  ExchangeFate,
  ExchangeMessage,
  PayloadHeader,
  Phase,
  RefusalCode
} from './messages.js'
import type { EdgeReference as WireReference, ExchangeFrame, Payload } from './peertune_pb.js'
import {
  AnnouncementFrameSchema,
  ExchangeFrameSchema,
  Outcome as WireOutcome,
  Phase as WirePhase,
  Refusal as WireRefusal
} from './peertune_pb.js'
import {
  countField,
  finiteField,
  fromHex,
  HASH_BYTES,
  groundsFromWire,
  groundsToWire,
  hexField,
  readingFrame,
  requireField,
  requireFits,
  Unreadable,
  WIRE_VERSION
} from './fields.js'

/** Bytes of one exchange message without its payload; the longest (hello) takes about 130. Room for later fields. */
export const MAX_MESSAGE_BYTES = 4096

/** Bytes of one announcement; gossip carries small things only (a full mesh multiplies every byte). */
export const MAX_ANNOUNCEMENT_BYTES = 64 * 1024

/** Characters of `software` and of `label`: one line of a status table. */
export const MAX_LABEL_LENGTH = 64

/** Characters of a codec name in a hello. */
const MAX_CODEC_NAME_LENGTH = 32

const EXCHANGE_ID_BYTES = 16

const PRINTABLE_ASCII = /^[\x20-\x7e]*$/
/** Control, format, surrogate and private characters: they could rewrite a terminal or hide in a table. */
const UNPRINTABLE = /[\p{C}\p{Zl}\p{Zp}]/u

/** A two-way table between our words and the wire's numbers. */
function wireEnum<Name extends string, Code extends number>(codes: Readonly<Record<Name, Code>>) {
  const names = new Map(Object.entries(codes).map(([name, code]) => [code as number, name as Name]))
  return { code: (name: Name): Code => codes[name], name: (code: number): Name | undefined => names.get(code) }
}

export const phases = wireEnum<Phase, WirePhase>({
  training: WirePhase.TRAINING,
  settling: WirePhase.SETTLING,
  done: WirePhase.DONE
})

const outcomes = wireEnum<ExchangeFate, WireOutcome>({ committed: WireOutcome.COMMITTED, undone: WireOutcome.UNDONE })

export const refusals = wireEnum<RefusalCode, WireRefusal>({
  unspecified: WireRefusal.UNSPECIFIED,
  busy: WireRefusal.BUSY,
  'other-federation': WireRefusal.OTHER_FEDERATION,
  'other-schema': WireRefusal.OTHER_SCHEMA,
  'other-codec': WireRefusal.OTHER_CODEC,
  'other-gamma': WireRefusal.OTHER_GAMMA,
  'absurd-weight': WireRefusal.ABSURD_WEIGHT,
  'duplicate-exchange': WireRefusal.DUPLICATE_EXCHANGE,
  'unknown-exchange': WireRefusal.UNKNOWN_EXCHANGE,
  'bad-checksum': WireRefusal.BAD_CHECKSUM,
  'bad-payload': WireRefusal.BAD_PAYLOAD,
  'not-finite': WireRefusal.NOT_FINITE,
  malformed: WireRefusal.MALFORMED,
  'rate-limited': WireRefusal.RATE_LIMITED,
  leaving: WireRefusal.LEAVING
})

function textField(value: string, refusedCharacters: (text: string) => boolean, field: string): string {
  if (value.length > MAX_LABEL_LENGTH) throw new Unreadable(`${field}: ${value.length} characters`)
  if (refusedCharacters(value)) throw new Unreadable(`${field} holds characters that are not allowed`)
  return value
}

export function codecField(name: string): string {
  if (name.length > MAX_CODEC_NAME_LENGTH) throw new Unreadable(`codec: a name of ${name.length} characters`)
  return name
}

export const payloadToWire = ({ sizeBytes, sha256 }: PayloadHeader) => ({ sizeBytes, sha256: fromHex(sha256) })

export const payloadFromWire = (payload: Payload | undefined): PayloadHeader => {
  const { sizeBytes, sha256 } = requireField(payload, 'payload')
  return { sizeBytes, sha256: hexField(sha256, HASH_BYTES, 'payload.sha256') }
}

/** The fields that HELLO and ACCEPT share; left out where they are absent. */
interface EdgeFields {
  readonly reference?: EdgeReference
  readonly radius?: number
  readonly degree?: number
}

const edgeToWire = ({ reference, radius, degree }: EdgeFields) => ({
  ...(reference === undefined
    ? {}
    : { reference: { hash: fromHex(reference.hash), sequence: BigInt(reference.sequence) } }),
  ...(radius === undefined ? {} : { radius }),
  ...(degree === undefined ? {} : { degree })
})

function edgeFromWire({
  reference,
  radius,
  degree
}: {
  readonly reference?: WireReference | undefined
  readonly radius?: number | undefined
  readonly degree?: number | undefined
}): EdgeFields {
  if (radius !== undefined && !(radius >= 0)) throw new Unreadable(`radius is ${radius}`)
  return {
    ...(reference === undefined
      ? {}
      : {
          reference: {
            hash: hexField(reference.hash, HASH_BYTES, 'reference.hash'),
            sequence: countField(reference.sequence, 'reference.sequence')
          }
        }),
    ...(radius === undefined ? {} : { radius: finiteField(radius, 'radius') }),
    ...(degree === undefined ? {} : { degree })
  }
}

/** The same on both sides; what a number may be is the federation's business. */
const slotsOf = ({ slots }: { readonly slots?: number | undefined }) => (slots === undefined ? {} : { slots })

type WireBody = NonNullable<MessageInitShape<typeof ExchangeFrameSchema>['body']>

/** The wire form of a message's own fields; one case per message type, mirrored by `bodyFromWire`. */
function bodyToWire(message: ExchangeMessage): WireBody {
  switch (message.type) {
    case 'hello':
      return {
        case: 'hello',
        value: {
          ...groundsToWire(message),
          phase: phases.code(message.phase),
          weight: message.weight,
          codec: message.codec,
          gamma: message.gamma,
          ...edgeToWire(message),
          ...slotsOf(message)
        }
      }
    case 'accept': {
      const { phase, weight, payload } = message
      return {
        case: 'accept',
        value: {
          phase: phases.code(phase),
          weight,
          payload: payloadToWire(payload),
          ...edgeToWire(message),
          ...slotsOf(message)
        }
      }
    }
    case 'refuse':
      return { case: 'refuse', value: { code: refusals.code(message.code) } }
    case 'commit':
      return { case: 'commit', value: { payload: payloadToWire(message.payload) } }
    case 'ack':
      return { case: 'ack', value: {} }
    case 'resolve':
      return { case: 'resolve', value: {} }
    case 'resolution':
      return { case: 'resolution', value: { outcome: outcomes.code(message.fate) } }
  }
}

function bodyFromWire(exchangeId: string, body: ExchangeFrame['body']): ExchangeMessage {
  switch (body.case) {
    case 'hello': {
      const { phase, weight, gamma } = body.value
      const codec = codecField(body.value.codec)
      return {
        type: 'hello',
        exchangeId,
        ...groundsFromWire(body.value),
        phase: requireField(phases.name(phase), 'phase'),
        weight,
        codec,
        gamma: finiteField(gamma, 'gamma'),
        ...edgeFromWire(body.value),
        ...slotsOf(body.value)
      }
    }
    case 'accept': {
      const phase = requireField(phases.name(body.value.phase), 'phase')
      const payload = payloadFromWire(body.value.payload)
      const { weight } = body.value
      return { type: 'accept', exchangeId, phase, weight, payload, ...edgeFromWire(body.value), ...slotsOf(body.value) }
    }
    case 'refuse':
      return { type: 'refuse', exchangeId, code: refusals.name(body.value.code) ?? 'unspecified' }
    case 'commit':
      return { type: 'commit', exchangeId, payload: payloadFromWire(body.value.payload) }
    case 'ack':
      return { type: 'ack', exchangeId }
    case 'resolve':
      return { type: 'resolve', exchangeId }
    case 'resolution':
      return { type: 'resolution', exchangeId, fate: requireField(outcomes.name(body.value.outcome), 'outcome') }
    default:
      throw new Unreadable('a message of no known type')
  }
}

/** One frame, without the payload that may follow. Throws `codec/too-large` for our own bug. */
export function encodeExchangeMessage(message: ExchangeMessage): Uint8Array {
  const frame = create(ExchangeFrameSchema, {
    version: WIRE_VERSION,
    exchangeId: fromHex(message.exchangeId),
    body: bodyToWire(message)
  })
  return requireFits(toBinary(ExchangeFrameSchema, frame), MAX_MESSAGE_BYTES)
}

/** Never throws for what a peer sent. Fields of a newer version are ignored, a newer `version` is refused. */
export const decodeExchangeMessage = (bytes: Uint8Array): Decoded<ExchangeMessage, CodecVerdictCode> =>
  readingFrame({ schema: ExchangeFrameSchema, maxBytes: MAX_MESSAGE_BYTES }, bytes, ({ exchangeId, body }) =>
    bodyFromWire(hexField(exchangeId, EXCHANGE_ID_BYTES, 'exchange_id'), body)
  )

/** Throws `codec/too-large` for our own bug. */
export function encodeAnnouncement(announcement: Announcement): Uint8Array {
  const { federation, phase, loss, label, ...counts } = announcement
  const frame = create(AnnouncementFrameSchema, {
    version: WIRE_VERSION,
    federation: fromHex(federation),
    sequence: BigInt(counts.sequence),
    step: BigInt(counts.step),
    phase: phases.code(phase),
    samples: counts.samples,
    exchanges: BigInt(counts.exchanges),
    bytesSent: BigInt(counts.bytesSent),
    bytesReceived: BigInt(counts.bytesReceived),
    software: counts.software,
    label: label ?? '',
    ...(loss === undefined ? {} : { loss })
  })
  return requireFits(toBinary(AnnouncementFrameSchema, frame), MAX_ANNOUNCEMENT_BYTES)
}

/** Never throws for what a peer sent. */
export const decodeAnnouncement = (bytes: Uint8Array): Decoded<Announcement, CodecVerdictCode> =>
  readingFrame({ schema: AnnouncementFrameSchema, maxBytes: MAX_ANNOUNCEMENT_BYTES }, bytes, (frame) => {
    const label = textField(frame.label, (text) => UNPRINTABLE.test(text), 'label')
    return {
      federation: hexField(frame.federation, HASH_BYTES, 'federation'),
      sequence: countField(frame.sequence, 'sequence'),
      step: countField(frame.step, 'step'),
      phase: requireField(phases.name(frame.phase), 'phase'),
      samples: frame.samples,
      exchanges: countField(frame.exchanges, 'exchanges'),
      bytesSent: countField(frame.bytesSent, 'bytes_sent'),
      bytesReceived: countField(frame.bytesReceived, 'bytes_received'),
      software: textField(frame.software, (text) => !PRINTABLE_ASCII.test(text), 'software'),
      ...(frame.loss === undefined ? {} : { loss: finiteField(frame.loss, 'loss') }),
      ...(label === '' ? {} : { label })
    }
  })
