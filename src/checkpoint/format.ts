import { createHash } from 'node:crypto'
import { endianness } from 'node:os'
import { PeertuneError, type ErrorFacts } from '../base/errors.js'
import { manifestOf, parseManifest, type CheckpointManifest } from './manifest.js'
import type { CheckpointIdentity, NodeState } from './state.js'

/**
 * One checkpoint as bytes. Pure. Integers and floats are little-endian.
 *
 *   8 bytes "PTCHKPT\n" | uint32 version | uint32 manifest bytes
 *   manifest, UTF-8 JSON, padded with spaces to a multiple of 4
 *   float32[size] each: parameters, m, v, and one section for each id in `inDoubt`
 *   32 bytes SHA-256 of everything before
 */
const CHECKPOINT_VERSION = 1

/** 2 GiB, what Node reads into one buffer: parameters and moments of 178 million float32. */
export const MAX_CHECKPOINT_BYTES = 2 ** 31 - 1
/** 64 MiB: the journal remembers some thousand exchanges of below 1 KB each. */
const MAX_MANIFEST_BYTES = 2 ** 26
/** What is hashed and written before others get their turn: about 3 ms. */
export const SLICE_BYTES = 2 ** 20

const MAGIC = Buffer.from('PTCHKPT\n', 'latin1')
const HEAD_BYTES = MAGIC.length + 8
const HASH_BYTES = 32

/** What a checkpoint of so many parameters takes at least: its journal and increments in doubt come on top. */
export const leastCheckpointBytes = (size: number): number =>
  HEAD_BYTES + 3 * size * Float32Array.BYTES_PER_ELEMENT + HASH_BYTES

export type CheckpointErrorCode =
  /** Cut off, changed or never a checkpoint. */
  'checkpoint/corrupt' | 'checkpoint/unsupported-version' | 'checkpoint/other-federation' | 'checkpoint/other-schema'

export type DecodedCheckpoint =
  | { readonly ok: true; readonly state: NodeState }
  | { readonly ok: false; readonly error: PeertuneError<CheckpointErrorCode> }

/**
 * The bytes in slices of at most SLICE_BYTES, the hash last. Slices are views of the state's vectors, which must not
 * change meanwhile. Throws `checkpoint/too-large` and `checkpoint/wrong-length` before the first slice.
 */
export function encodeCheckpoint(state: NodeState): Generator<Uint8Array, undefined, undefined> {
  const { parameters, adam, inDoubt } = state
  const sections = [parameters, adam.m, adam.v, ...Object.values(inDoubt)]
  checkLengths(sections, parameters.length)
  const manifest = encodeManifest(manifestOf(state))
  const total = HEAD_BYTES + manifest.length + sections.length * parameters.byteLength + HASH_BYTES
  if (total > MAX_CHECKPOINT_BYTES || manifest.length > MAX_MANIFEST_BYTES)
    throw new PeertuneError('checkpoint/too-large', 'the state does not fit into a checkpoint', {
      facts: { bytes: total, maxBytes: MAX_CHECKPOINT_BYTES, manifestBytes: manifest.length }
    })
  return hashed(Buffer.concat([headOf(manifest.length), manifest]), sections)
}

function headOf(manifestBytes: number): Buffer {
  const head = Buffer.alloc(HEAD_BYTES)
  MAGIC.copy(head)
  head.writeUInt32LE(CHECKPOINT_VERSION, MAGIC.length)
  head.writeUInt32LE(manifestBytes, MAGIC.length + 4)
  return head
}

function encodeManifest(manifest: CheckpointManifest): Buffer {
  const json = Buffer.from(JSON.stringify(manifest))
  return Buffer.concat([json, Buffer.alloc(-json.length & 3, ' ')])
}

function* hashed(front: Uint8Array, sections: readonly Float32Array[]): Generator<Uint8Array, undefined, undefined> {
  const hash = createHash('sha256')
  for (const whole of [front, ...sections.map(bytesOf)])
    for (let at = 0; at < whole.length; at += SLICE_BYTES) {
      const slice = whole.subarray(at, at + SLICE_BYTES)
      hash.update(slice)
      yield slice
    }
  yield hash.digest()
}

/** Little-endian bytes of a vector: a view where the machine is little-endian, as all that run onnxruntime are. */
function bytesOf(vector: Float32Array): Uint8Array {
  const bytes = Buffer.from(vector.buffer, vector.byteOffset, vector.byteLength)
  return endianness() === 'LE' ? bytes : Buffer.from(bytes).swap32()
}

function checkLengths(sections: readonly Float32Array[], size: number): void {
  const wrong = sections.find(({ length }) => length !== size)
  if (wrong === undefined) return
  throw new PeertuneError('checkpoint/wrong-length', 'a vector of the state is not as long as the parameters', {
    facts: { expected: size, got: wrong.length }
  })
}

/** The state, or why these bytes are of no use to a node of this federation and schema. Never throws for the bytes. */
export function decodeCheckpoint(bytes: Uint8Array, expected: CheckpointIdentity): DecodedCheckpoint {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const fault = checkFrame(buffer)
  if (fault !== undefined) return fault
  const manifestEnd = HEAD_BYTES + buffer.readUInt32LE(MAGIC.length + 4)
  const manifest = readManifest(buffer.subarray(HEAD_BYTES, manifestEnd))
  if ('badField' in manifest) return corrupt('its manifest does not hold what it should', { field: manifest.badField })
  const mismatch = checkIdentity(manifest, expected)
  if (mismatch !== undefined) return mismatch
  const body = buffer.subarray(manifestEnd, buffer.length - HASH_BYTES)
  const expectedBytes = 4 * manifest.size * (3 + manifest.inDoubt.length)
  if (body.length !== expectedBytes)
    return corrupt('its vectors have another length than its manifest says', { expectedBytes, got: body.length })
  return { ok: true, state: stateOf(manifest, body) }
}

/** Magic, version, lengths and hash; everything behind can then be taken for what was once written. */
function checkFrame(buffer: Buffer): DecodedCheckpoint | undefined {
  if (buffer.length < HEAD_BYTES + HASH_BYTES) return corrupt('it is too short', { bytes: buffer.length })
  if (!buffer.subarray(0, MAGIC.length).equals(MAGIC)) return corrupt('it does not begin like a checkpoint', {})
  const version = buffer.readUInt32LE(MAGIC.length)
  if (version !== CHECKPOINT_VERSION)
    return failed('checkpoint/unsupported-version', `the checkpoint has version ${version}`, {
      facts: { expected: CHECKPOINT_VERSION, got: version },
      hint: 'continue with the version of peertune that wrote it, or start with a fresh data directory'
    })
  const manifestBytes = buffer.readUInt32LE(MAGIC.length + 4)
  const room = buffer.length - HEAD_BYTES - HASH_BYTES
  if (manifestBytes > Math.min(room, MAX_MANIFEST_BYTES))
    return corrupt('its manifest is longer than the file', { manifestBytes, room })
  const body = buffer.subarray(0, buffer.length - HASH_BYTES)
  const hash = createHash('sha256').update(body).digest()
  return hash.equals(buffer.subarray(body.length)) ? undefined : corrupt('its checksum is wrong', {})
}

function readManifest(json: Buffer): ReturnType<typeof parseManifest> {
  try {
    return parseManifest(JSON.parse(json.toString('utf8')))
  } catch {
    return { badField: '(the whole)' }
  }
}

function checkIdentity(got: CheckpointIdentity, expected: CheckpointIdentity): DecodedCheckpoint | undefined {
  if (got.federationHash !== expected.federationHash)
    return failed('checkpoint/other-federation', 'the checkpoint belongs to another federation', {
      facts: { expected: expected.federationHash, got: got.federationHash },
      hint: 'use one data directory for each federation'
    })
  if (got.schemaHash !== expected.schemaHash)
    return failed('checkpoint/other-schema', 'the checkpoint is of other parameters than the model now has', {
      facts: { expected: expected.schemaHash, got: got.schemaHash },
      hint: 'start with a fresh data directory'
    })
  return undefined
}

function stateOf(manifest: CheckpointManifest, body: Uint8Array): NodeState {
  const { adamStep, size, inDoubt, ...rest } = manifest
  const section = (i: number) => {
    const vector = new Float32Array(size)
    bytesInto(vector, body.subarray(4 * size * i, 4 * size * (i + 1)))
    return vector
  }
  return {
    ...rest,
    parameters: section(0),
    adam: { m: section(1), v: section(2), step: adamStep },
    inDoubt: Object.fromEntries(inDoubt.map((id, i) => [id, section(3 + i)]))
  }
}

function bytesInto(vector: Float32Array, bytes: Uint8Array): void {
  const target = Buffer.from(vector.buffer)
  target.set(bytes)
  if (endianness() !== 'LE') target.swap32()
}

const failed = (
  code: CheckpointErrorCode,
  message: string,
  options: { facts: ErrorFacts; hint?: string }
): DecodedCheckpoint => ({ ok: false, error: new PeertuneError(code, message, options) })

const corrupt = (why: string, facts: ErrorFacts): DecodedCheckpoint =>
  failed('checkpoint/corrupt', `the checkpoint is damaged: ${why}`, { facts })
