import { create, fromBinary, toBinary } from '@bufbuild/protobuf'
import { sha256Hex } from '../../base/bytes.js'
import type { Decoded } from '../../base/verdict.js'
import type { CodecVerdictCode } from '../codec.js'
import { SignedUpdateSchema, UpdateBodySchema, UpdateFrameSchema } from './peertune_pb.js'
import type { SignedUpdate, Update, UpdateFields, UpdateNotice } from './update.js'
import {
  countField,
  fromHex,
  HASH_BYTES,
  groundsFromWire,
  groundsToWire,
  hexField,
  reading,
  readingFrame,
  requireFits,
  requireVersion,
  Unreadable,
  WIRE_VERSION
} from './fields.js'

/** Bytes of one message on the topic of updates; larger updates are announced there and pulled over streams. */
export const MAX_UPDATE_FRAME_BYTES = 64 * 1024

/** Bytes of an Ed25519 signature (RFC 8032, 5.1.6). */
export const SIGNATURE_BYTES = 64

/** Bytes of an update around its payload: hashes, signature, author and numbers take about 260. */
export const UPDATE_OVERHEAD_BYTES = 512

/** Characters of a base58 peer id: an Ed25519 one has 52. */
const MAX_PEER_ID_LENGTH = 64
const PEER_ID = /^[A-Za-z0-9-]+$/

/** The bytes that an author signs. */
export const encodeUpdateBody = (fields: UpdateFields): Uint8Array =>
  toBinary(
    UpdateBodySchema,
    create(UpdateBodySchema, {
      version: WIRE_VERSION,
      ...groundsToWire(fields),
      author: fields.author,
      sequence: BigInt(fields.sequence),
      previous: fromHex(fields.previous),
      samples: fields.samples,
      totalSamples: BigInt(fields.totalSamples),
      payload: Uint8Array.from(fields.payload)
    })
  )

export function peerIdField(id: string): string {
  if (id.length === 0 || id.length > MAX_PEER_ID_LENGTH || !PEER_ID.test(id)) throw new Unreadable('no peer id')
  return id
}

function updateOf({ body, signature }: SignedUpdate): Update {
  if (signature.length !== SIGNATURE_BYTES) throw new Unreadable(`a signature of ${signature.length} bytes`)
  const fields = fromBinary(UpdateBodySchema, body)
  requireVersion(fields.version)
  return {
    ...groundsFromWire(fields),
    author: peerIdField(fields.author),
    sequence: countField(fields.sequence, 'sequence'),
    previous: hexField(fields.previous, HASH_BYTES, 'previous'),
    samples: fields.samples,
    totalSamples: countField(fields.totalSamples, 'total_samples'),
    payload: fields.payload,
    body,
    signature,
    hash: sha256Hex(body)
  }
}

/** Reads an update of at most `maxBytes`. Never throws for what a peer sent. Does not look at the signature. */
export const readUpdate = (signed: SignedUpdate, maxBytes: number): Decoded<Update, CodecVerdictCode> =>
  reading(signed.body, maxBytes, () => updateOf(signed))

/** A signed update in one piece, as it travels on streams and is kept on disk. */
export const encodeSigned = ({ body, signature }: SignedUpdate): Uint8Array =>
  toBinary(
    SignedUpdateSchema,
    create(SignedUpdateSchema, { body: Uint8Array.from(body), signature: Uint8Array.from(signature) })
  )

/** As `readUpdate`, from one piece. */
export const decodeSigned = (bytes: Uint8Array, maxBytes: number): Decoded<Update, CodecVerdictCode> =>
  reading(bytes, maxBytes, () => updateOf(fromBinary(SignedUpdateSchema, bytes)))

/** What is published on the topic of updates: the update itself, or that there is one. */
export type UpdateFrame =
  | { readonly type: 'update'; readonly update: Update }
  | { readonly type: 'notice'; readonly notice: UpdateNotice }

/** The update itself where it fits, a notice of it otherwise. */
export function encodeUpdateFrame(update: Update): Uint8Array {
  const { body, signature } = update
  const whole = toBinary(
    UpdateFrameSchema,
    create(UpdateFrameSchema, {
      version: WIRE_VERSION,
      body: {
        case: 'update',
        value: { body: Uint8Array.from(body), signature: Uint8Array.from(signature) }
      }
    })
  )
  return whole.length <= MAX_UPDATE_FRAME_BYTES ? whole : encodeNotice(update)
}

function encodeNotice({ federation, sequence, hash, body }: Update): Uint8Array {
  const value = {
    federation: fromHex(federation),
    sequence: BigInt(sequence),
    hash: fromHex(hash),
    sizeBytes: body.length
  }
  const frame = create(UpdateFrameSchema, { version: WIRE_VERSION, body: { case: 'notice', value } })
  return requireFits(toBinary(UpdateFrameSchema, frame), MAX_UPDATE_FRAME_BYTES)
}

/** Never throws for what a peer sent. */
export const decodeUpdateFrame = (bytes: Uint8Array): Decoded<UpdateFrame, CodecVerdictCode> =>
  readingFrame({ schema: UpdateFrameSchema, maxBytes: MAX_UPDATE_FRAME_BYTES }, bytes, ({ body }): UpdateFrame => {
    if (body.case === 'update') return { type: 'update', update: updateOf(body.value) }
    if (body.case !== 'notice') throw new Unreadable('a message of no known type')
    const { federation, sequence, hash, sizeBytes } = body.value
    return {
      type: 'notice',
      notice: {
        federation: hexField(federation, HASH_BYTES, 'federation'),
        sequence: countField(sequence, 'sequence'),
        hash: hexField(hash, HASH_BYTES, 'hash'),
        sizeBytes
      }
    }
  })
