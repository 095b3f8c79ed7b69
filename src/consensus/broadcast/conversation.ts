import { concat } from 'uint8arrays/concat'
import type { Decoded, Verdict } from '../../base/verdict.js'
import { decoded, ignore, refused, reject } from '../../base/verdict.js'
import type { Head, Update } from '../../codec/wire/update.js'
import { bytesBehind, type SyncHeader } from '../../codec/wire/sync.js'
import { decodeSigned, encodeSigned } from '../../codec/wire/update-frame.js'
import { authorOf, mostUpdateBytes, preview } from './broadcast.js'
import type { BroadcastSnapshot } from './snapshot.js'
import { answerTo, digestOf } from './sync.js'
import type { BroadcastConfig, BroadcastState, BroadcastVerdictCode } from './types.js'
import type { Broadcaster, OpenEffect } from './broadcaster.js'
import { unitsFromBytes, unitsHash, unitsToBytes } from './fixed-point.js'
import type { PeerId } from '../peer-id.js'
import { headOf } from './update-chain.js'

/** Bytes of updates given in one conversation, 16 MiB: the rest is for the next, so that nobody is held up for long. */
export const MAX_ANSWER_BYTES = 16 * 1024 * 1024

/** Frames of one conversation: updates of a few bytes still end. */
export const MAX_SYNC_MESSAGES = 16_384

/** Bytes of a signed update around its body: the signature and two lengths. */
const SIGNED_OVERHEAD_BYTES = 128

/** Is this the author's signature of these bytes? */
export type VerifyBody = (author: PeerId, body: Uint8Array, signature: Uint8Array) => boolean

/** One thing said on a sync stream, whole. */
export interface SyncMessage {
  readonly header: SyncHeader
  readonly payload?: Uint8Array
}

export interface ConversationParts {
  readonly config: BroadcastConfig
  readonly broadcaster: Broadcaster
  readonly verify: VerifyBody
  readonly peer: PeerId
  /** Asked for besides what we lack: the hash at these heads, to confirm somebody else's snapshot. */
  readonly confirm?: readonly Head[]
}

/** What came of one message. */
export interface ConversationStep {
  readonly replies: readonly SyncMessage[]
  readonly effects: readonly OpenEffect[]
  /** What the peer has, once it has said so. */
  readonly heads?: readonly Head[]
  /** A snapshot that somebody else should confirm before it is adopted. */
  readonly snapshot?: BroadcastSnapshot
  /** The snapshot's hash at the heads that were to be confirmed; `null`: it cannot tell. */
  readonly confirmed?: string | null
  /** The conversation cannot go on. */
  readonly verdict?: Verdict<BroadcastVerdictCode>
  /** Both have said all. */
  readonly over: boolean
}

/**
 * One conversation in which two peers tell each other what they lack. Both say what they have, each answers with updates
 * and proofs, asks for a snapshot where bodies are gone, and ends. Symmetric; whatever is lost of it is told the next time.
 */
export interface SyncConversation {
  /** What the opener says first. */
  begin(): readonly SyncMessage[]
  take(message: SyncMessage): ConversationStep
  /** Bytes that may follow such a header: the bound before anything is allocated. */
  fits(header: SyncHeader): Verdict<BroadcastVerdictCode> | undefined
}

export function createSyncConversation(parts: ConversationParts): SyncConversation {
  const { config, broadcaster } = parts
  let told = false
  let theyEnded = false
  let weEnded = false
  let waitingForSnapshot = false

  const ownDigest = (): readonly SyncMessage[] => {
    if (told) return []
    told = true
    return [{ header: { type: 'digest', digest: digestOf(config, broadcaster.state()) } }]
  }
  /** We are done once nothing more is awaited. */
  const ending = (): readonly SyncMessage[] => {
    if (weEnded || waitingForSnapshot) return []
    weEnded = true
    return [{ header: { type: 'end' } }]
  }
  const step = (changes: Partial<ConversationStep> = {}): ConversationStep => ({
    replies: [],
    effects: [],
    ...changes,
    over: theyEnded && weEnded
  })

  function takeDigest({ digest }: SyncHeader & { type: 'digest' }): ConversationStep {
    if (digest.federation !== config.federation) return step({ verdict: reject('broadcast/other-federation') })
    if (digest.schema !== config.schemaHash) return step({ verdict: reject('broadcast/other-schema') })
    const mine = ownDigest()
    const { evidence, updates } = answerTo(broadcaster.state(), digest, MAX_ANSWER_BYTES)
    const asks = asksFor(parts, digest.heads)
    waitingForSnapshot = asks.length > 0
    const replies = [...mine, ...evidence.map(evidenceMessage), ...updates.map(updateMessage), ...asks]
    return step({ replies: [...replies, ...ending()], heads: digest.heads })
  }
  function takeSnapshot(header: SyncHeader & { type: 'snapshot' }, payload: Uint8Array | undefined): ConversationStep {
    waitingForSnapshot = false
    const replies = ending()
    if (parts.confirm !== undefined) return step({ replies, confirmed: header.hash ?? null })
    const snapshot = snapshotOf(parts, header, payload)
    return step({ replies, ...(snapshot === undefined ? {} : { snapshot }) })
  }
  return {
    begin: ownDigest,
    fits: (header) => tooMuch(config, header),
    take({ header, payload }) {
      switch (header.type) {
        case 'digest':
          return takeDigest(header)
        case 'update':
        case 'evidence':
          return step(takeUpdates(parts, header, payload))
        case 'ask':
          return step({ replies: [snapshotFor(broadcaster, header)] })
        case 'snapshot':
          return takeSnapshot(header, payload)
        case 'end':
          theyEnded = true
          return step()
      }
    }
  }
}

const updateMessage = (update: Update): SyncMessage => {
  const payload = encodeSigned(update)
  return { header: { type: 'update', sizeBytes: payload.length }, payload }
}

const evidenceMessage = ([first, second]: readonly [Update, Update]): SyncMessage => {
  const [one, other] = [encodeSigned(first), encodeSigned(second)]
  return {
    header: { type: 'evidence', firstBytes: one.length, secondBytes: other.length },
    payload: concat([one, other])
  }
}

function tooMuch(config: BroadcastConfig, header: SyncHeader): Verdict<BroadcastVerdictCode> | undefined {
  const most = mostUpdateBytes(config) + SIGNED_OVERHEAD_BYTES
  const snapshotBytes = 8 * config.rule.size
  const fits =
    header.type === 'evidence'
      ? header.firstBytes <= most && header.secondBytes <= most
      : header.type === 'snapshot'
        ? header.sizeBytes === 0 || header.sizeBytes === snapshotBytes
        : bytesBehind(header) <= most
  return fits ? undefined : reject('codec/too-large', `${bytesBehind(header)} bytes behind ${header.type}`)
}

/** Updates with good signatures, or what is wrong with one. What we have already costs no signature. */
function takeUpdates(
  { config, broadcaster, verify, peer }: ConversationParts,
  header: SyncHeader & { type: 'update' | 'evidence' },
  payload: Uint8Array = new Uint8Array(0)
): Partial<ConversationStep> {
  const cut = header.type === 'evidence' ? [header.firstBytes] : []
  const read = slices(payload, cut).map((bytes) => verified(config, bytes, verify))
  const bad = read.find((one) => !one.ok)
  if (bad !== undefined && !bad.ok) return { verdict: bad.verdict }
  const updates = read.flatMap((one) => (one.ok ? [one.value] : []))
  const [first, second] = updates as [Update, Update?]
  if (second !== undefined)
    return { effects: broadcaster.dispatch({ type: 'evidence', pair: [first, second], from: peer }) }
  return { effects: broadcaster.dispatch({ type: 'update', update: first, from: peer }) }
}

const slices = (bytes: Uint8Array, cuts: readonly number[]): readonly Uint8Array[] =>
  [0, ...cuts].map((at, i) => bytes.subarray(at, cuts[i] ?? bytes.length))

/** Decodes and checks who signed; second-hand updates are as good as first-hand ones. */
function verified(
  config: BroadcastConfig,
  bytes: Uint8Array,
  verify: VerifyBody
): Decoded<Update, BroadcastVerdictCode> {
  const update = decodeSigned(bytes, mostUpdateBytes(config) + SIGNED_OVERHEAD_BYTES)
  if (!update.ok) return update
  const { author, body, signature } = update.value
  return verify(author, body, signature) ? decoded(update.value) : refused(reject('broadcast/bad-signature', author))
}

/** As `verified` for an update that came by pubsub, which has to be new, too, to be passed on. */
export function published(
  config: BroadcastConfig,
  state: BroadcastState,
  update: Update,
  verify: VerifyBody
): Verdict<BroadcastVerdictCode> {
  const verdict = preview(config, state, update)
  if (verdict.verdict !== 'accept') return verdict
  return verify(update.author, update.body, update.signature)
    ? verdict
    : reject('broadcast/bad-signature', update.author)
}

/** Have they compacted updates that we lack, or stopped an author at an update that we have compacted? */
const needsSnapshot = (state: BroadcastState, heads: readonly Head[]): boolean =>
  heads.some(({ author, base, stop }) => {
    const own = authorOf(state, author)
    return base > headOf(own) || (stop !== undefined && stop.sequence <= own.base)
  })

function asksFor({ broadcaster, confirm }: ConversationParts, heads: readonly Head[]): readonly SyncMessage[] {
  if (confirm !== undefined) return [{ header: { type: 'ask', heads: confirm, hashOnly: true } }]
  return needsSnapshot(broadcaster.state(), heads) ? [{ header: { type: 'ask', heads: [], hashOnly: false } }] : []
}

function snapshotFor(broadcaster: Broadcaster, { heads, hashOnly }: SyncHeader & { type: 'ask' }): SyncMessage {
  const snapshot = heads.length === 0 ? broadcaster.snapshot() : { heads, units: broadcaster.unitsAt(heads) }
  if (snapshot.units === undefined) return { header: { type: 'snapshot', heads, sizeBytes: 0 } }
  const payload = hashOnly ? undefined : unitsToBytes(snapshot.units)
  const header = {
    type: 'snapshot',
    heads: snapshot.heads,
    hash: unitsHash(snapshot.units),
    sizeBytes: payload?.length ?? 0
  } as const
  return payload === undefined ? { header } : { header, payload }
}

function snapshotOf(
  { config }: ConversationParts,
  { heads, hash }: SyncHeader & { type: 'snapshot' },
  payload: Uint8Array | undefined
): BroadcastSnapshot | undefined {
  const units = payload === undefined ? undefined : unitsFromBytes(payload, config.rule.size)
  return units === undefined || hash !== unitsHash(units) ? undefined : { heads, units }
}

/** A conversation that went on for too long. */
export const tooManyMessages = (): Verdict<BroadcastVerdictCode> => ignore('broadcast/too-many-messages')
