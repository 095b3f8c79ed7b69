import type { ExchangeLog } from '../../checkpoint/exchange-log.js'
import type { NodeState } from '../../checkpoint/state.js'
import { type ReplayedExchange, replayLog } from '../../consensus/exchange/exchange-log.js'
import { type Journal, type JournalDocument, restoreJournal } from '../../consensus/exchange/journal.js'
import type { Selection } from '../../tensor/selection.js'
import type { SavedRounds } from './progress.js'

/**
 * The exchange journal and, beside it, what a checkpoint has no field for: counters of `RoundsState`, and the number of
 * the last entry of the exchange log that the checkpoint contains (0 in checkpoints older than the log).
 */
export type SavedJournal = JournalDocument['json'] & SavedRounds & { readonly logged?: number }

const EMPTY_JOURNAL: SavedJournal = { inDoubt: [], accepted: [], lastExchangeStep: 0, settled: 0 }
export const journalOf = (saved: NodeState | undefined): SavedJournal =>
  saved === undefined ? EMPTY_JOURNAL : (saved.journal as unknown as SavedJournal)

export const mapValues = (
  vectors: Readonly<Record<string, Float32Array>>,
  map: (vector: Float32Array) => Float32Array
): Record<string, Float32Array> =>
  Object.fromEntries(Object.entries(vectors).map(([name, vector]) => [name, map(vector)]))

/** What the last life has left on the disk. */
export interface Remains {
  readonly saved: NodeState | undefined
  /** What is exchanged of the parameters; increments are of these only. */
  readonly shared: Selection
  readonly exchangeLog: Pick<ExchangeLog, 'load'> | undefined
}

export type Recovered = readonly [Journal, readonly ReplayedExchange[]]

/** The journal of the last life's end, and what was exchanged after the checkpoint: the learner does not have it yet. */
export async function recover({ saved, shared, exchangeLog }: Remains): Promise<Recovered> {
  const tensors = mapValues(saved?.inDoubt ?? {}, shared.take)
  const before = restoreJournal({ json: journalOf(saved), tensors }, shared.schema.size)
  return replayLog(before, (await exchangeLog?.load(journalOf(saved).logged ?? 0)) ?? [])
}

/** The log as the driver sees it; `broken` hears of the first write that failed. */
export function watchedLog(log: ExchangeLog, broken: (error: unknown) => void): Pick<ExchangeLog, 'append' | 'synced'> {
  return {
    append(entry) {
      log.append(entry)
      log.synced().catch(broken)
    },
    synced: log.synced
  }
}
