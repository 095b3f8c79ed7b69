import type { Head, Update, UpdateHash } from '../../codec/wire/update.js'
import { headsOf, sameHeads } from '../../consensus/broadcast/sync.js'
import { type AuthorState, type BroadcastEntry, MAX_WAITING } from '../../consensus/broadcast/types.js'
import type { Broadcaster } from '../../consensus/broadcast/broadcaster.js'
import { contributionOf, type StepRule } from '../../consensus/broadcast/fixed-point.js'
import type { ViolationCode } from './ledger.js'

/** Sees every update that leaves an honest author, and in the end whether all of them count everywhere. */
export interface BroadcastLedger {
  /** The author has told somebody. */
  left(update: Update): void
  /** An honest peer has recorded it, whoever wrote it: from these compacted updates are added up again. */
  recorded(entry: BroadcastEntry): void
  /** After every event: nothing grows beyond its bound. */
  check(name: string, broadcaster: Broadcaster): void
  /** Once everybody has told everybody. */
  close(replicas: readonly { readonly name: string; readonly broadcaster: Broadcaster }[]): void
  /** Updates of honest authors that have left. */
  told(): number
}

type Report = (code: ViolationCode, detail: string) => void

export function createBroadcastLedger(report: Report, rule: StepRule): BroadcastLedger {
  /** By author: hashes by number, from 1. */
  const chains = new Map<string, Map<number, string>>()
  const bodies = new Map<UpdateHash, Update>()
  let told = 0
  return {
    recorded(entry) {
      for (const update of entry.kind === 'update' ? [entry.update] : entry.pair) bodies.set(update.hash, update)
    },
    left({ author, sequence, hash }) {
      const chain = chains.get(author) ?? new Map<number, string>()
      chains.set(author, chain)
      const before = chain.get(sequence)
      if (before === undefined) told++
      else if (before !== hash) report('number-used-twice', `${author} ${sequence}`)
      chain.set(sequence, hash)
    },
    check(name, broadcaster) {
      for (const [author, { waiting }] of broadcaster.state().authors)
        if (waiting.size > MAX_WAITING) report('bound-exceeded', `${name}: ${waiting.size} of ${author} wait`)
    },
    close(replicas) {
      const [first] = replicas
      if (first === undefined) return
      const heads = headsOf(first.broadcaster.state())
      for (const { name, broadcaster } of replicas) {
        if (!sameHeads(headsOf(broadcaster.state()), heads))
          report('replicas-differ', `${name} has counted other updates`)
        if (broadcaster.hash() !== first.broadcaster.hash()) report('replicas-differ', `${name} has other bits`)
        if (!isSumOfItsUpdates(broadcaster, rule, bodies))
          report('replicas-differ', `${name} is not the sum of what it counts`)
      }
      for (const [author, chain] of chains) {
        const fault = faultOf(author, chain, heads)
        if (fault !== undefined) report(...fault)
      }
    },
    told: () => told
  }
}

/** What is wrong with how the updates of one author were counted, if anything is. */
function faultOf(
  author: string,
  chain: ReadonlyMap<number, string>,
  heads: readonly Head[]
): Parameters<Report> | undefined {
  const head = heads.find((one) => one.author === author)
  const last = Math.max(...chain.keys())
  const counted = head?.sequence ?? 0
  if (head?.stop !== undefined) return ['number-used-twice', `${author} equivocated at ${head.stop.sequence}`]
  return counted < last ? ['update-lost', `${author} ${last}, counted up to ${counted}`] : undefined
}

type Bodies = ReadonlyMap<UpdateHash, Update>

/** The compacted updates, whose bodies the peer no longer has: from the last of them back to the first. */
function compacted({ base, baseHash }: AuthorState, bodies: Bodies): readonly Update[] {
  const chain: Update[] = []
  for (let hash = baseHash; chain.length < base; hash = chain.at(-1)!.previous) {
    const update = bodies.get(hash)
    if (update === undefined) break
    chain.push(update)
  }
  return chain
}

/** In integers of any size, in one order: another way to the same number. */
function isSumOfItsUpdates(broadcaster: Broadcaster, rule: StepRule, bodies: Bodies): boolean {
  const { state, units } = broadcaster.saved()
  const sum = Array.from(units, () => 0n)
  for (const author of state.authors.values())
    for (const update of [...compacted(author, bodies), ...author.held]) {
      const step = contributionOf(rule, update)
      if (!step.ok) return false
      step.value.indices.forEach((index, k) => {
        sum[index] = sum[index]! + BigInt(step.value.units[k]!)
      })
    }
  return sum.every((value, i) => value === BigInt(units[i]!))
}
