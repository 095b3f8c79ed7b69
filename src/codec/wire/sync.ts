import { create, type MessageInitShape, toBinary } from '@bufbuild/protobuf'
import type { Decoded } from '../../base/verdict.js'
import type { CodecVerdictCode } from '../codec.js'
import { type Head as WireHead, type HeadSchema, type SyncFrame, SyncFrameSchema } from './peertune_pb.js'
import { type Digest, GENESIS, type Head, type Want } from './update.js'
import {
  countField,
  fromHex,
  HASH_BYTES,
  groundsFromWire,
  groundsToWire,
  hexField,
  readingFrame,
  requireFits,
  Unreadable,
  WIRE_VERSION
} from './fields.js'
import { peerIdField } from './update-frame.js'

/** Bytes of one frame of a sync stream without what follows it: heads and wants of 256 authors take about 64 KiB. */
export const MAX_SYNC_FRAME_BYTES = 128 * 1024

/** Heads, and wants, in one frame. */
const MAX_HEADS = 256

/** What is said on a sync stream; raw bytes follow those with a size. */
export type SyncHeader =
  | { readonly type: 'digest'; readonly digest: Digest }
  /** A signed update follows. */
  | { readonly type: 'update'; readonly sizeBytes: number }
  /** Two signed updates of one author with one number follow. */
  | { readonly type: 'evidence'; readonly firstBytes: number; readonly secondBytes: number }
  /** Asks for the snapshot at these heads, or at the answerer's own where there are none. */
  | { readonly type: 'ask'; readonly heads: readonly Head[]; readonly hashOnly: boolean }
  /** `hash` is absent where the snapshot cannot be given. It follows where `sizeBytes` is not 0. */
  | { readonly type: 'snapshot'; readonly heads: readonly Head[]; readonly hash?: string; readonly sizeBytes: number }
  /** All is said. */
  | { readonly type: 'end' }

/** Bytes that follow a header. */
export function bytesBehind(header: SyncHeader): number {
  if (header.type === 'evidence') return header.firstBytes + header.secondBytes
  return 'sizeBytes' in header ? header.sizeBytes : 0
}

const headToWire = ({ author, sequence, hash, base, stop }: Head): MessageInitShape<typeof HeadSchema> => ({
  author,
  sequence: BigInt(sequence),
  hash: sequence === 0 ? new Uint8Array(0) : fromHex(hash),
  base: BigInt(base),
  ...(stop === undefined ? {} : { stopSequence: BigInt(stop.sequence), stopHash: fromHex(stop.hash) })
})

function headFromWire(head: WireHead): Head {
  const sequence = countField(head.sequence, 'sequence')
  const stopSequence = countField(head.stopSequence, 'stop_sequence')
  const base = countField(head.base, 'base')
  if (base > sequence) throw new Unreadable(`base ${base} behind head ${sequence}`)
  return {
    author: peerIdField(head.author),
    sequence,
    hash: sequence === 0 ? GENESIS : hexField(head.hash, HASH_BYTES, 'hash'),
    base,
    ...(stopSequence === 0
      ? {}
      : { stop: { sequence: stopSequence, hash: hexField(head.stopHash, HASH_BYTES, 'stop_hash') } })
  }
}

/** Every author once. */
function headsFromWire(heads: readonly WireHead[]): readonly Head[] {
  const read = atMost(heads, 'heads').map(headFromWire)
  if (new Set(read.map(({ author }) => author)).size < read.length) throw new Unreadable('an author twice')
  return read
}

function atMost<T>(items: readonly T[], what: string): readonly T[] {
  if (items.length > MAX_HEADS) throw new Unreadable(`${items.length} ${what}, at most ${MAX_HEADS}`)
  return items
}

type WireBody = NonNullable<MessageInitShape<typeof SyncFrameSchema>['body']>

function toWire(header: SyncHeader): WireBody {
  switch (header.type) {
    case 'digest': {
      const { heads, wants } = header.digest
      return {
        case: 'digest',
        value: {
          ...groundsToWire(header.digest),
          heads: heads.map(headToWire),
          wants: wants.map(({ author, sequence, hash }) => ({
            author,
            sequence: BigInt(sequence),
            hash: fromHex(hash)
          }))
        }
      }
    }
    case 'update':
      return { case: 'update', value: { sizeBytes: header.sizeBytes } }
    case 'evidence':
      return { case: 'evidence', value: { firstBytes: header.firstBytes, secondBytes: header.secondBytes } }
    case 'ask':
      return { case: 'ask', value: { heads: header.heads.map(headToWire), hashOnly: header.hashOnly } }
    case 'snapshot': {
      const { heads, hash, sizeBytes } = header
      const value = { heads: heads.map(headToWire), hash: fromHex(hash ?? ''), sizeBytes }
      return { case: 'snapshot', value }
    }
    case 'end':
      return { case: 'end', value: {} }
  }
}

function fromWire(body: SyncFrame['body']): SyncHeader {
  switch (body.case) {
    case 'digest': {
      const { heads, wants } = body.value
      const digest: Digest = {
        ...groundsFromWire(body.value),
        heads: headsFromWire(heads),
        wants: atMost(wants, 'wants').map(
          ({ author, sequence, hash }): Want => ({
            author: peerIdField(author),
            sequence: countField(sequence, 'sequence'),
            hash: hexField(hash, HASH_BYTES, 'hash')
          })
        )
      }
      return { type: 'digest', digest }
    }
    case 'update':
      return { type: 'update', sizeBytes: body.value.sizeBytes }
    case 'evidence':
      return { type: 'evidence', firstBytes: body.value.firstBytes, secondBytes: body.value.secondBytes }
    case 'ask':
      return { type: 'ask', heads: headsFromWire(body.value.heads), hashOnly: body.value.hashOnly }
    case 'snapshot': {
      const { heads, hash, sizeBytes } = body.value
      const known = hash.length === 0 ? {} : { hash: hexField(hash, HASH_BYTES, 'hash') }
      return { type: 'snapshot', heads: headsFromWire(heads), sizeBytes, ...known }
    }
    case 'end':
      return { type: 'end' }
    default:
      throw new Unreadable('a message of no known type')
  }
}

/** One frame, without the bytes that may follow. Throws `codec/too-large` for our own bug. */
export const encodeSyncHeader = (header: SyncHeader): Uint8Array =>
  requireFits(
    toBinary(SyncFrameSchema, create(SyncFrameSchema, { version: WIRE_VERSION, body: toWire(header) })),
    MAX_SYNC_FRAME_BYTES
  )

/** Never throws for what a peer sent. */
export const decodeSyncHeader = (bytes: Uint8Array): Decoded<SyncHeader, CodecVerdictCode> =>
  readingFrame({ schema: SyncFrameSchema, maxBytes: MAX_SYNC_FRAME_BYTES }, bytes, ({ body }) => fromWire(body))
