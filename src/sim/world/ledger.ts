import type { ExchangeId } from '../../codec/wire/messages.js'
import type { ExchangeRole } from '../../consensus/exchange/journal.js'
import type { PeerIndex } from './network.js'

/** A promise of the exchange or the broadcast that was broken. */
export type ViolationCode =
  | 'applied-twice'
  | 'applied-and-undone'
  | 'half-applied'
  | 'not-antisymmetric'
  | 'never-settled'
  | 'not-finite'
  | 'mean-moved'
  | 'bound-exceeded'
  | 'node-failed'
  /** Of the broadcast: replicas that heard the same differ, or a sum is not the sum of its updates. */
  | 'replicas-differ'
  /** An update that had left its honest author is not counted everywhere in the end. */
  | 'update-lost'
  /** An honest author has used a number twice. */
  | 'number-used-twice'

export interface Violation {
  readonly code: ViolationCode
  readonly detail: string
  /** Virtual milliseconds. */
  readonly atMs: number
}

/** One half of an exchange as it happened at one peer. */
export interface AppliedHalf {
  readonly peer: PeerIndex
  readonly exchangeId: ExchangeId
  readonly role: ExchangeRole
  readonly increment: Float32Array
  readonly weight: number
}

/** Both halves of every exchange between honest peers. */
export interface Ledger {
  applied(half: AppliedHalf): void
  /** The peer has come back without these: their effect is not in its parameters. */
  rolledBack(half: Pick<AppliedHalf, 'exchangeId' | 'role'>): void
  undone(exchangeId: ExchangeId): void
  /** Once everything is settled: every exchange on both sides or on none. */
  close(): void
  /** Exchanges applied on both sides. */
  whole(): number
}

interface Entry {
  /** How often each side has it: initiator, responder. */
  readonly count: [number, number]
  undone: boolean
  /** The first half, until the second is there. */
  first: AppliedHalf | undefined
}

/** Largest |n_i dx_i + n_j dx_j| against the largest |n_i dx_i|: a few roundings of float32. */
const ANTISYMMETRY_TOLERANCE = 1e-6

/** `exact`: the mixing rule is antisymmetric and must be seen to be. */
export function createLedger(report: (code: ViolationCode, detail: string) => void, exact: boolean): Ledger {
  const entries = new Map<ExchangeId, Entry>()
  let whole = 0

  function entryOf(exchangeId: ExchangeId): Entry {
    const known = entries.get(exchangeId)
    if (known !== undefined) return known
    const entry: Entry = { count: [0, 0], undone: false, first: undefined }
    entries.set(exchangeId, entry)
    return entry
  }
  return {
    applied(half) {
      const entry = entryOf(half.exchangeId)
      const at = half.role === 'initiator' ? 0 : 1
      entry.count[at]++
      if (entry.count[at] > 1) report('applied-twice', `${half.exchangeId} by its ${half.role}`)
      if (entry.undone) report('applied-and-undone', `${half.exchangeId} by its ${half.role}`)
      if (entry.count[1 - at] === 0) entry.first = half
      else {
        whole++
        if (exact && entry.first !== undefined && entry.first.role !== half.role) checkPair(entry.first, half, report)
        entry.first = undefined
      }
    },
    rolledBack({ exchangeId, role }) {
      const entry = entryOf(exchangeId)
      if (entry.count[0] > 0 && entry.count[1] > 0) whole--
      entry.count[role === 'initiator' ? 0 : 1]--
      entry.first = undefined
    },
    undone(exchangeId) {
      const entry = entryOf(exchangeId)
      entry.undone = true
      if (entry.count[0] + entry.count[1] > 0) report('applied-and-undone', exchangeId)
    },
    close() {
      for (const [id, { count }] of entries)
        if (count[0] !== count[1])
          report('half-applied', `${id}: ${count[0]} times by its initiator, ${count[1]} by its responder`)
    },
    whole: () => whole
  }
}

function checkPair(a: AppliedHalf, b: AppliedHalf, report: (code: ViolationCode, detail: string) => void): void {
  const { increment: one, weight } = a
  const { increment: other, weight: otherWeight } = b
  let worst = 0
  let scale = 0
  for (let i = 0; i < one.length; i++) {
    const left = weight * one[i]!
    const apart = Math.abs(left + otherWeight * other[i]!)
    if (apart > worst) worst = apart
    if (Math.abs(left) > scale) scale = Math.abs(left)
  }
  if (!(worst <= ANTISYMMETRY_TOLERANCE * scale))
    report('not-antisymmetric', `${a.exchangeId} between ${a.peer} and ${b.peer}: ${worst} of ${scale}`)
}
