import type { Rng } from '../../src/base/rng.js'

/** Bytes of the longest frame that is made up: longer than any message may be. */
export const MAX_FUZZ_BYTES = 8_192

/** Changes made to one frame, at most. */
const MAX_CHANGES = 4
/** One frame in so many is random from end to end. */
const RANDOM_SHARE = 8
/** Longest run that is inserted, removed or copied. */
const MAX_RUN = 64

type Change = (frame: Uint8Array, others: readonly Uint8Array[], rng: Rng) => Uint8Array

const concat = (...parts: readonly Uint8Array[]): Uint8Array => Uint8Array.from(Buffer.concat(parts))
const pick = <T>(items: readonly T[], rng: Rng): T => items[rng.integer(items.length)] as T
const place = (frame: Uint8Array, rng: Rng): number => rng.integer(frame.length + 1)
const randomBytes = (length: number, rng: Rng): Uint8Array => Uint8Array.from({ length }, () => rng.integer(256))

/** Writes over the frame from `at` on; what does not fit falls off. */
function overwrite(frame: Uint8Array, at: number, bytes: ArrayLike<number>): Uint8Array {
  const changed = frame.slice()
  for (let i = 0; i < bytes.length && at + i < changed.length; i++) changed[at + i] = bytes[i] as number
  return changed
}

/** Base 128 varints that are wrong or huge: 2^31, 2^32 - 1, 2^53, 2^63, one bit too many, and one without an end. */
const VARINTS: readonly (readonly number[])[] = [
  [0x80, 0x80, 0x80, 0x80, 0x08],
  [0xff, 0xff, 0xff, 0xff, 0x0f],
  [0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x10],
  [0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01],
  [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f],
  [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
  [0x80, 0x00]
]

/** Little-endian words that lengths, counts and scales should not be. */
const WORDS: readonly (readonly number[])[] = [
  [0xff, 0xff, 0xff, 0xff],
  [0x00, 0x00, 0x00, 0x80],
  [0xff, 0xff, 0xff, 0x7f],
  [0x00, 0x7c],
  [0x00, 0xfc],
  [0x01, 0x7e],
  [0x00, 0x00, 0xc0, 0x7f],
  [0x00, 0x00, 0x80, 0xff],
  [0x01, 0x00, 0x00, 0x00]
]

const EDGE_BYTES = [0x00, 0x01, 0x7f, 0x80, 0xfe, 0xff] as const

/** A start-group tag of protobuf, for nesting without end. */
const START_GROUP = 0x0b

const CHANGES: readonly Change[] = [
  // Flip one bit.
  (frame, _, rng) => {
    const at = rng.integer(Math.max(1, frame.length))
    return overwrite(frame, at, [(frame[at] ?? 0) ^ (1 << rng.integer(8))])
  },
  (frame, _, rng) => overwrite(frame, place(frame, rng), [pick(EDGE_BYTES, rng)]),
  (frame, _, rng) => overwrite(frame, place(frame, rng), pick(WORDS, rng)),
  (frame, _, rng) => overwrite(frame, place(frame, rng), pick(VARINTS, rng)),
  // A length one too small, too large, or off by much, wherever one may stand.
  (frame, _, rng) => {
    const at = rng.integer(Math.max(1, frame.length))
    return overwrite(frame, at, [((frame[at] ?? 0) + pick([-1, 1, -16, 16, 100], rng)) & 0xff])
  },
  (frame, _, rng) => frame.slice(0, place(frame, rng)),
  (frame, _, rng) => frame.slice(place(frame, rng)),
  (frame, _, rng) => {
    const at = place(frame, rng)
    return concat(frame.subarray(0, at), frame.subarray(at + 1 + rng.integer(MAX_RUN)))
  },
  (frame, _, rng) => {
    const at = place(frame, rng)
    return concat(frame.subarray(0, at), randomBytes(1 + rng.integer(MAX_RUN), rng), frame.subarray(at))
  },
  (frame, _, rng) => {
    const at = place(frame, rng)
    return concat(frame.subarray(0, at), Uint8Array.from(pick(VARINTS, rng)), frame.subarray(at))
  },
  // A field twice, or in another place.
  (frame, _, rng) => {
    const from = place(frame, rng)
    const at = place(frame, rng)
    const run = frame.subarray(from, from + 1 + rng.integer(MAX_RUN))
    return concat(frame.subarray(0, at), run, frame.subarray(at))
  },
  // The head of one frame and the tail of another.
  (frame, others, rng) => {
    const other = pick(others, rng)
    return concat(frame.subarray(0, place(frame, rng)), other.subarray(place(other, rng)))
  },
  (frame, _, rng) => concat(new Uint8Array(1 + rng.integer(MAX_FUZZ_BYTES)).fill(START_GROUP), frame)
]

/** A frame that is random, or one of `seeds` changed in up to MAX_CHANGES places. At most MAX_FUZZ_BYTES long. */
export function fuzzedFrame(seeds: readonly Uint8Array[], rng: Rng): Uint8Array {
  // Short ones more often: most of a decoder lies behind its first bytes.
  if (rng.integer(RANDOM_SHARE) === 0) return randomBytes(rng.integer(2 ** (1 + rng.integer(10))), rng)
  let frame = pick(seeds, rng)
  for (let changes = 1 + rng.integer(MAX_CHANGES); changes > 0; changes--) frame = pick(CHANGES, rng)(frame, seeds, rng)
  return frame.length > MAX_FUZZ_BYTES ? frame.slice(0, MAX_FUZZ_BYTES) : frame
}
