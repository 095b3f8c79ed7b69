import type { Head, UpdateFields } from '../../src/codec/wire/update.js'
import {
  decodeStateReply,
  decodeStateRequest,
  encodeStateReply,
  encodeStateRequest,
  type StateReply
} from '../../src/codec/wire/state.js'
import { decodeSyncHeader, encodeSyncHeader, type SyncHeader } from '../../src/codec/wire/sync.js'
import {
  decodeSigned,
  decodeUpdateFrame,
  encodeSigned,
  encodeUpdateBody,
  encodeUpdateFrame,
  readUpdate,
  SIGNATURE_BYTES
} from '../../src/codec/wire/update-frame.js'
import type { FuzzTarget } from './fuzz-target.js'
import { MESSAGE_BYTES, sameAgain } from './fuzz-target.js'

/** Bytes of the longest update that is read. */
const MOST = 1 << 20
const AUTHOR = '12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp'
const hash = (digit: string): string => digit.repeat(64)

const FIELDS: UpdateFields = {
  federation: hash('a'),
  schema: hash('b'),
  author: AUTHOR,
  sequence: 7,
  previous: hash('c'),
  samples: 300,
  totalSamples: 2 ** 40,
  payload: Uint8Array.from({ length: 100 }, (_, i) => i)
}

function updateOf(changes: Partial<UpdateFields>) {
  const signature = new Uint8Array(SIGNATURE_BYTES).fill(9)
  const read = readUpdate({ body: encodeUpdateBody({ ...FIELDS, ...changes }), signature }, MOST)
  if (!read.ok) throw new Error('a well-formed update was refused')
  return read.value
}

const UPDATES = [updateOf({}), updateOf({ sequence: 8, payload: new Uint8Array(3) })]
const LARGE = updateOf({ payload: new Uint8Array(66_000) })

const HEAD: Head = { author: AUTHOR, sequence: 12, hash: hash('d'), base: 3 }
const SYNC: readonly SyncHeader[] = [
  { type: 'update', sizeBytes: 300 },
  { type: 'evidence', firstBytes: 300, secondBytes: 299 },
  { type: 'ask', heads: [HEAD, { ...HEAD, stop: { sequence: 13, hash: hash('e') } }], hashOnly: true },
  { type: 'snapshot', heads: [HEAD], hash: hash('f'), sizeBytes: 4_000 },
  { type: 'end' }
]

const STATES: readonly StateReply[] = [
  { type: 'place', place: { phase: 'training', weight: 300, step: 70_000 } },
  { type: 'refuse', code: 'busy' },
  {
    type: 'state',
    state: {
      phase: 'done',
      weight: 3,
      step: 1,
      codec: 'int8',
      payload: { sizeBytes: 1_032, sha256: hash('1') }
    }
  }
]

/** Of broadcasting and of catching up. */
export const BROADCAST_TARGETS: readonly FuzzTarget[] = [
  {
    name: 'update-frame',
    seeds: [...UPDATES, LARGE].map(encodeUpdateFrame),
    mostBytes: MESSAGE_BYTES,
    decode: decodeUpdateFrame
  },
  {
    name: 'signed-update',
    seeds: UPDATES.map(encodeSigned),
    mostBytes: MESSAGE_BYTES,
    decode: (frame) => decodeSigned(frame, MOST)
  },
  {
    name: 'sync-header',
    seeds: SYNC.map(encodeSyncHeader),
    mostBytes: MESSAGE_BYTES,
    decode: decodeSyncHeader,
    flaw: sameAgain(encodeSyncHeader, decodeSyncHeader)
  },
  {
    name: 'state-request',
    seeds: [true, false].map((placeOnly) =>
      encodeStateRequest({ federation: hash('a'), schema: hash('b'), placeOnly })
    ),
    mostBytes: MESSAGE_BYTES,
    decode: decodeStateRequest,
    flaw: sameAgain(encodeStateRequest, decodeStateRequest)
  },
  {
    name: 'state-reply',
    seeds: STATES.map(encodeStateReply),
    mostBytes: MESSAGE_BYTES,
    decode: decodeStateReply,
    flaw: sameAgain(encodeStateReply, decodeStateReply)
  }
]
