import { PeertuneError } from '../../base/errors.js'
import type { Decoded, Verdict } from '../../base/verdict.js'
import { ACCEPT, ignore, refused, reject } from '../../base/verdict.js'
import { GENESIS, type Update } from '../../codec/wire/update.js'
import { UPDATE_OVERHEAD_BYTES } from '../../codec/wire/update-frame.js'
import type {
  AuthorState,
  BroadcastConfig,
  BroadcastEffect,
  BroadcastEvent,
  BroadcastState,
  BroadcastStep,
  BroadcastVerdictCode
} from './types.js'
import { type Contribution, contributionOf, MAX_SEQUENCE } from './fixed-point.js'
import type { PeerId } from '../peer-id.js'
import { isSaneWeight } from '../weight.js'
import {
  emptyAuthor,
  compactAuthor,
  headHashOf,
  headOf,
  type Outcome,
  takeEvidence,
  takeUpdate
} from './update-chain.js'

/**
 * Every peer tells everybody what it has learned, and everybody adds all of it up: a grow-only set of signed updates,
 * keyed by author and number. A replica is a function of the set (fixed-point.ts, update-chain.ts), so peers that have
 * heard the same hold the same bits, however it came to them. In the manner of SparseLoCo (Sarfi et al. 2025,
 * https://arxiv.org/abs/2508.15706) without its rounds: nobody waits for anybody.
 *
 * Pure. Signatures are checked before an event is made of an update; what a replica is made of is its driver's.
 */
export const initialBroadcastState: BroadcastState = { authors: new Map() }

export const authorOf = (state: BroadcastState, id: PeerId): AuthorState => state.authors.get(id) ?? emptyAuthor

/** The most bytes of an update's body: what is larger is refused unread. */
export const mostUpdateBytes = ({ rule }: Pick<BroadcastConfig, 'rule'>): number =>
  rule.codec.encodedBytes(rule.size) + UPDATE_OVERHEAD_BYTES

/**
 * What an update is worth whoever gave it and whenever: a function of it and the manifest, so that all peers judge alike.
 * The signature is not looked at. The contribution is what it will add.
 */
function examine(config: BroadcastConfig, update: Update): Decoded<Contribution, BroadcastVerdictCode> {
  const { federation, schema, sequence, samples, totalSamples, author, previous } = update
  if (federation !== config.federation) return refused(reject('broadcast/other-federation'))
  if (schema !== config.schemaHash) return refused(reject('broadcast/other-schema'))
  if (config.authors?.includes(author) === false) return refused(reject('broadcast/not-an-author'))
  if (!isSaneWeight(samples) || !(totalSamples >= samples))
    return refused(reject('broadcast/absurd-update', `${samples} of ${totalSamples} examples`))
  if (sequence < 1 || sequence > MAX_SEQUENCE)
    return refused(reject('broadcast/absurd-update', `number ${sequence}, at most ${MAX_SEQUENCE}`))
  if ((sequence === 1) !== (previous === GENESIS))
    return refused(reject('broadcast/absurd-update', `number ${sequence} behind ${previous}`))
  return contributionOf(config.rule, update)
}

/**
 * May this update, its signature unchecked, be looked at more closely? Cheap; what it refuses costs no signature. A
 * duplicate is not passed on.
 */
export function preview(
  config: BroadcastConfig,
  state: BroadcastState,
  update: Pick<Update, 'author' | 'sequence' | 'hash'>
): Verdict<BroadcastVerdictCode> {
  const { author, sequence, hash } = update
  const known = state.authors.get(author)
  if (known === undefined) {
    const full = state.authors.size >= config.maxAuthors && author !== config.self
    return full ? ignore('broadcast/too-many-authors', `${config.maxAuthors} are counted`) : ACCEPT
  }
  const stop = known.stop?.[0].sequence
  if (stop !== undefined && sequence > stop) return ignore('broadcast/author-stopped')
  if (sequence <= known.base) return ignore('broadcast/compacted')
  const same = known.held[sequence - known.base - 1]?.hash ?? known.waiting.get(sequence)?.hash
  if (same === hash || known.stop?.some((one) => one.hash === hash)) return ignore('broadcast/duplicate')
  return ACCEPT
}

export function stepBroadcast(config: BroadcastConfig, state: BroadcastState, event: BroadcastEvent): BroadcastStep {
  switch (event.type) {
    case 'own':
      return takeOwn(config, state, event.update)
    case 'update':
      return takeForeign(config, state, event.update, event.from)
    case 'evidence':
      return takePair(config, state, event.pair, event.from)
    case 'compact': {
      const author = state.authors.get(event.author)
      return [author === undefined ? state : withAuthor(state, event.author, compactAuthor(author, event.upTo)), []]
    }
  }
}

const withAuthor = (state: BroadcastState, id: PeerId, author: AuthorState): BroadcastState => ({
  ...state,
  authors: new Map(state.authors).set(id, author)
})

const penalty = (peer: PeerId, verdict: Verdict<BroadcastVerdictCode>): BroadcastEffect => ({
  type: 'penalise',
  peer,
  verdict
})

function takeOwn(config: BroadcastConfig, state: BroadcastState, update: Update): BroadcastStep {
  const author = authorOf(state, config.self)
  const fits =
    update.author === config.self &&
    author.stop === undefined &&
    update.sequence === headOf(author) + 1 &&
    update.previous === headHashOf(author)
  if (!fits)
    throw new PeertuneError('consensus/not-the-next-update', 'an update of our own that does not follow our last one', {
      facts: { expected: headOf(author) + 1, got: update.sequence }
    })
  const outcome = takeUpdate(author, update)
  const [next, effects] = settle(state, config.self, update, config.self, outcome)
  return [next, [...effects, { type: 'publish', update }]]
}

function takeForeign(config: BroadcastConfig, state: BroadcastState, update: Update, from: PeerId): BroadcastStep {
  const examined = examine(config, update)
  if (!examined.ok) return [state, [penalty(update.author, examined.verdict)]]
  const verdict = preview(config, state, update)
  if (verdict.verdict !== 'accept') return [state, [penalty(from, verdict)]]
  return settle(state, update.author, update, from, takeUpdate(authorOf(state, update.author), update))
}

function takePair(
  config: BroadcastConfig,
  state: BroadcastState,
  pair: readonly [Update, Update],
  from: PeerId
): BroadcastStep {
  const [one, other] = pair
  const isPair = one.author === other.author && one.sequence === other.sequence && one.hash !== other.hash
  if (!isPair) return [state, [penalty(from, reject('broadcast/absurd-update', 'two updates that prove nothing'))]]
  // An update that counts nowhere proves nothing either: all peers judge it alike.
  if (!examine(config, one).ok || !examine(config, other).ok)
    return [state, [penalty(one.author, reject('broadcast/absurd-update', 'an unusable update'))]]
  if (!state.authors.has(one.author) && state.authors.size >= config.maxAuthors)
    return [state, [penalty(from, ignore('broadcast/too-many-authors'))]]
  return settle(state, one.author, one, from, takeEvidence(authorOf(state, one.author), pair))
}

const DROPPED = {
  duplicate: 'broadcast/duplicate',
  compacted: 'broadcast/compacted',
  stopped: 'broadcast/author-stopped',
  'too-far-ahead': 'broadcast/too-far-ahead'
} as const

/** What an outcome asks of the driver: first the disk, then the replica, then the others. */
function settle(state: BroadcastState, id: PeerId, update: Update, from: PeerId, outcome: Outcome): BroadcastStep {
  if (!('author' in outcome)) {
    const dropped = penalty(from, ignore(DROPPED[outcome.kind]))
    const missing: BroadcastEffect[] = outcome.kind === 'too-far-ahead' ? [{ type: 'missing', author: id, from }] : []
    return [state, [dropped, ...missing]]
  }
  const { author, counts, kind } = outcome
  const effects: BroadcastEffect[] = []
  if (kind === 'equivocation') effects.push({ type: 'record', entry: { kind: 'evidence', pair: author.stop! } })
  else effects.push({ type: 'record', entry: { kind: 'update', update } })
  for (const count of counts) effects.push({ type: 'count', ...count })
  if (kind === 'kept') effects.push({ type: 'missing', author: id, from })
  if (kind === 'equivocation') {
    effects.push({ type: 'equivocation', author: id, pair: author.stop! })
    effects.push(penalty(id, reject('broadcast/equivocation', `two updates with number ${author.stop![0].sequence}`)))
  }
  return [withAuthor(state, id, author), effects]
}

/** The state that log entries lead to, and what they have counted. The entries are our own: nothing is judged again. */
export function replayBroadcast(
  state: BroadcastState,
  entries: Iterable<
    | { readonly kind: 'update'; readonly update: Update }
    | { readonly kind: 'evidence'; readonly pair: readonly [Update, Update] }
  >
): readonly [BroadcastState, readonly (BroadcastEffect & { readonly type: 'count' })[]] {
  const made: (BroadcastEffect & { readonly type: 'count' })[] = []
  let now = state
  for (const entry of entries) {
    const id = entry.kind === 'update' ? entry.update.author : entry.pair[0].author
    const author = authorOf(now, id)
    const outcome = entry.kind === 'update' ? takeUpdate(author, entry.update) : takeEvidence(author, entry.pair)
    if (!('author' in outcome)) continue
    now = withAuthor(now, id, outcome.author)
    for (const count of outcome.counts) made.push({ type: 'count', ...count })
  }
  return [now, made]
}
