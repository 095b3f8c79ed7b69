import { fromBinary, type Message } from '@bufbuild/protobuf'
import type { GenMessage } from '@bufbuild/protobuf/codegenv2'
import { fromString } from 'uint8arrays/from-string'
import { toString as textOf } from 'uint8arrays/to-string'
import { PeertuneError } from '../../base/errors.js'
import type { Decoded } from '../../base/verdict.js'
import { decoded, refused, reject } from '../../base/verdict.js'
import type { CodecVerdictCode } from '../codec.js'

/** Raised only by a change that an old receiver must not ignore. */
export const WIRE_VERSION = 1

/** Bytes of a SHA-256. */
export const HASH_BYTES = 32

/** These carry a verdict out of nested readers; caught in `reading` and nowhere else. */
export class Unreadable extends Error {}
class UnsupportedVersion extends Error {}

export function requireField<T>(value: T | undefined, field: string): T {
  if (value === undefined) throw new Unreadable(`${field} is missing or unknown`)
  return value
}

export function hexField(bytes: Uint8Array, length: number, field: string): string {
  if (bytes.length !== length) throw new Unreadable(`${field}: expected ${length} bytes, got ${bytes.length}`)
  return textOf(bytes, 'hex')
}

export function finiteField(value: number, field: string): number {
  if (!Number.isFinite(value)) throw new Unreadable(`${field} is ${value}`)
  return value
}

export function countField(value: bigint, field: string): number {
  if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw new Unreadable(`${field} is ${value}, beyond 2^53 - 1`)
  return Number(value)
}

/** Runs a reader over bytes whose length is checked; whatever it throws is about the bytes. */
export function reading<T>(bytes: Uint8Array, maxBytes: number, read: () => T): Decoded<T, CodecVerdictCode> {
  if (bytes.length > maxBytes)
    return refused(reject('codec/too-large', `message of ${bytes.length} bytes, at most ${maxBytes}`))
  try {
    return decoded(read())
  } catch (error) {
    if (error instanceof UnsupportedVersion) return refused(reject('codec/unsupported-version', error.message))
    return refused(reject('codec/malformed', error instanceof Error ? error.message : String(error)))
  }
}

export function requireVersion(version: number): void {
  if (version !== WIRE_VERSION)
    throw new UnsupportedVersion(`wire version ${version}, this build speaks ${WIRE_VERSION}`)
}

/** Our own values must fit the wire; a longer label is the operator's, caught where the config is read. */
export function requireFits(bytes: Uint8Array, maxBytes: number): Uint8Array {
  if (bytes.length > maxBytes)
    throw new PeertuneError('codec/too-large', `message of ${bytes.length} bytes, at most ${maxBytes}`, {
      facts: { got: bytes.length, most: maxBytes }
    })
  return bytes
}

export const fromHex = (hex: string): Uint8Array<ArrayBuffer> => Uint8Array.from(fromString(hex, 'hex'))

/** One kind of message on the wire, and how long it may be. */
export interface FrameKind<Frame extends Message & { readonly version: number }> {
  readonly schema: GenMessage<Frame>
  readonly maxBytes: number
}

/** Reads a frame of that kind and of our version. Never throws for what a peer sent. */
export const readingFrame = <Frame extends Message & { readonly version: number }, T>(
  { schema, maxBytes }: FrameKind<Frame>,
  bytes: Uint8Array,
  read: (frame: Frame) => T
): Decoded<T, CodecVerdictCode> =>
  reading(bytes, maxBytes, () => {
    const frame: Frame = fromBinary(schema, bytes)
    requireVersion(frame.version)
    return read(frame)
  })

/** What both sides must have in common. */
export interface Grounds {
  /** Hash of the federation manifest, hexadecimal. */
  readonly federation: string
  /** Hash of the parameter schema, hexadecimal. */
  readonly schema: string
}

export const groundsToWire = ({ federation, schema }: Grounds) => ({
  federation: fromHex(federation),
  schema: fromHex(schema)
})

export const groundsFromWire = ({ federation, schema }: Readonly<Record<keyof Grounds, Uint8Array>>): Grounds => ({
  federation: hexField(federation, HASH_BYTES, 'federation'),
  schema: hexField(schema, HASH_BYTES, 'schema')
})
