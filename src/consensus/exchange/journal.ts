import { PeertuneError } from '../../base/errors.js'
import type { ExchangeFate, ExchangeId, Phase } from '../../codec/wire/messages.js'
import { keepLatest } from '../keep-latest.js'
import type { Edge } from './edges.js'
import type { OuterState } from '../rules/outer-momentum.js'
import type { PeerId } from '../peer-id.js'

/** Who asked for an exchange, and who decides about it. */
export type ExchangeRole = 'initiator' | 'responder'

/**
 * Exchanges whose fate we do not know, each with a whole vector: 16 of them are 16 partners that vanished between two
 * messages. The oldest is forgotten as undone when a seventeenth comes; its partner has then been gone for long.
 */
export const MAX_IN_DOUBT = 16

/**
 * Ids remembered per initiator. One would do, since an initiator in doubt starts nothing new with us; the rest covers
 * an initiator that came back from an older checkpoint and asks again.
 */
export const MAX_ACCEPTED_PER_PEER = 32

/** Initiators remembered, the longest silent forgotten first: 32 ids of 32 characters for each are about 2 MB. */
export const MAX_REMEMBERED_PEERS = 1024

/** What an exchange showed of the two that made it. */
export interface Observation {
  /** By the measure of the exchange, before clipping. */
  readonly distance: number
  /** Of LoRA factors, ||mean(BA) - mean(B) mean(A)||_F over the pair. */
  readonly crossTerm?: number
  /** It as a share of ||mean(BA)||_F. */
  readonly crossShare?: number
  /** Share of the difference that was followed: 1 where nothing was clipped. */
  readonly scale: number
  /** The partner was ready to follow us much less far than we are from it, and than we were ready to follow it. */
  readonly heldBack?: boolean
  /** How far the partner was ready to follow us, where it said so. */
  readonly radius?: number
  /** Exchanges behind the reference that was coded against; 0 for the common start. */
  readonly turns: number
}

/** We have sent our commit and not heard that it arrived: apply `increment` or drop it, as the responder decides. */
export interface InDoubt {
  readonly exchangeId: ExchangeId
  readonly peer: PeerId
  readonly partnerPhase: Phase
  readonly increment: Float32Array
  readonly observed?: Observation
  /** What it leaves behind if it has happened. Not in checkpoints: after a restart all of it begins anew. */
  readonly leaves?: Remembered
}

/** What a committed exchange leaves behind besides its increment; each where the federation's rule asks for it. */
export interface Remembered {
  readonly edge?: Edge
  /** The partner's vector as both ends took it, float32[n]. */
  readonly seen?: Float32Array
  readonly outer?: OuterState
}

/** Nothing at all where there is nothing to leave. */
export function leaving(leaves: Remembered, edge: Edge | undefined): Pick<InDoubt, 'leaves'> {
  const all = edge === undefined ? leaves : { ...leaves, edge }
  return Object.keys(all).length === 0 ? {} : { leaves: all }
}

/** An exchange we have accepted as responder. Not committed means undone, or still open as the active exchange. */
export interface Accepted {
  readonly exchangeId: ExchangeId
  readonly committed: boolean
}

/** What must survive a restart so that no exchange is left half applied. Goes into the checkpoint with the parameters. */
export interface Journal {
  /** Oldest first. At most one per peer: nothing new is started with a peer we are in doubt with. */
  readonly inDoubt: readonly InDoubt[]
  /** By initiator, the one heard from last at the end; ids oldest first. */
  readonly accepted: ReadonlyMap<PeerId, readonly Accepted[]>
}

export const emptyJournal: Journal = { inDoubt: [], accepted: new Map() }

export const doubtWith = (journal: Journal, peer: PeerId): InDoubt | undefined =>
  journal.inDoubt.find((record) => record.peer === peer)

export const doubtAbout = (journal: Journal, peer: PeerId, exchangeId: ExchangeId): InDoubt | undefined =>
  journal.inDoubt.find((record) => record.peer === peer && record.exchangeId === exchangeId)

/** Adds a record; gives back what had to be forgotten for it. */
export function enterDoubt(journal: Journal, record: InDoubt): [Journal, readonly InDoubt[]] {
  const all = [...journal.inDoubt, record]
  const surplus = Math.max(0, all.length - MAX_IN_DOUBT)
  return [{ ...journal, inDoubt: all.slice(surplus) }, all.slice(0, surplus)]
}

export const leaveDoubt = (journal: Journal, record: InDoubt): Journal => ({
  ...journal,
  inDoubt: journal.inDoubt.filter((other) => other !== record)
})

const acceptedFrom = (journal: Journal, peer: PeerId): readonly Accepted[] => journal.accepted.get(peer) ?? []

function withAccepted(journal: Journal, peer: PeerId, ids: readonly Accepted[]): Journal {
  const latest = ids.slice(-MAX_ACCEPTED_PER_PEER)
  return { ...journal, accepted: keepLatest(journal.accepted, [peer, latest], MAX_REMEMBERED_PEERS) }
}

/** True once `noteAccepted` has seen the id, whatever became of it: an id is good for one exchange. */
export const wasAccepted = (journal: Journal, peer: PeerId, exchangeId: ExchangeId): boolean =>
  acceptedFrom(journal, peer).some((one) => one.exchangeId === exchangeId)

export const noteAccepted = (journal: Journal, peer: PeerId, exchangeId: ExchangeId): Journal =>
  withAccepted(journal, peer, [...acceptedFrom(journal, peer), { exchangeId, committed: false }])

export const noteCommitted = (journal: Journal, peer: PeerId, exchangeId: ExchangeId): Journal =>
  withAccepted(
    journal,
    peer,
    acceptedFrom(journal, peer).map((one) => (one.exchangeId === exchangeId ? { exchangeId, committed: true } : one))
  )

/** What we, the responder, decided. Final for every exchange but the active one. */
export const fateOf = (journal: Journal, peer: PeerId, exchangeId: ExchangeId): ExchangeFate =>
  acceptedFrom(journal, peer).some((one) => one.exchangeId === exchangeId && one.committed) ? 'committed' : 'undone'

/** A journal for a checkpoint: plain JSON, and the increments by name. */
export interface JournalDocument {
  readonly json: {
    readonly inDoubt: readonly {
      readonly exchangeId: ExchangeId
      readonly peer: PeerId
      readonly partnerPhase: Phase
      readonly observed?: Observation
      /** Key into `tensors`. */
      readonly tensor: string
    }[]
    readonly accepted: readonly { readonly peer: PeerId; readonly ids: readonly Accepted[] }[]
  }
  readonly tensors: Readonly<Record<string, Float32Array>>
}

const tensorName = (exchangeId: ExchangeId): string => `in-doubt.${exchangeId}`

export const journalDocument = (journal: Journal): JournalDocument => ({
  json: {
    inDoubt: journal.inDoubt.map(({ increment: _increment, leaves: _leaves, ...record }) => ({
      ...record,
      tensor: tensorName(record.exchangeId)
    })),
    accepted: [...journal.accepted].map(([peer, ids]) => ({ peer, ids }))
  },
  tensors: Object.fromEntries(journal.inDoubt.map((record) => [tensorName(record.exchangeId), record.increment]))
})

/** Throws `consensus/bad-journal` where an increment is missing or not float32[size]. */
export function restoreJournal({ json, tensors }: JournalDocument, size: number): Journal {
  const inDoubt = json.inDoubt.map(({ tensor, ...record }) => {
    const increment = tensors[tensor]
    if (increment?.length !== size)
      throw new PeertuneError('consensus/bad-journal', `the increment ${tensor} of an exchange in doubt is not whole`, {
        facts: { tensor, expected: size, got: increment?.length ?? 'nothing' }
      })
    return { ...record, increment }
  })
  return { inDoubt, accepted: new Map(json.accepted.map(({ peer, ids }) => [peer, ids])) }
}
