import type { JsonValue } from '../../base/json.js'
import type { NodeState } from '../../checkpoint/state.js'
import type { Learner } from './learner.js'
import type { ParticipantParts, ParticipantReport } from '../participant/types.js'
import type { SavedJournal } from './recovery.js'

/** Writes checkpoints; what it knows of the last one is for the status. */
export interface Checkpointer {
  save(): Promise<void>
  /** Saves when enough exchanges have been made since the last time. Called between two steps only. */
  isDue(): boolean
  saved(): ParticipantReport['saved']
  bytesBefore(): ParticipantReport['bytesBefore']
}

/** What a checkpoint holds besides the learner. */
export interface KeptWithIt {
  readonly journal: Omit<SavedJournal, 'lastExchangeStep' | 'settled'>
  /** Sections by name, float32[whole]. */
  readonly inDoubt: NodeState['inDoubt']
}

export interface CheckpointerParts {
  readonly participant: Pick<
    ParticipantParts,
    'config' | 'federation' | 'trainer' | 'transport' | 'clock' | 'store' | 'log'
  >
  readonly learner: Learner
  /** The checkpoint that this life began with. */
  readonly before: NodeState | undefined
  /** Called in the tick that the rest is read in. */
  readonly keptWithIt: () => KeptWithIt
  /** Called once a checkpoint is on disk. */
  readonly onSaved?: (state: NodeState) => Promise<void>
}

/** The checkpoint to go on from, if there is one. */
export async function lastSaved({
  store,
  federation,
  trainer,
  log
}: Pick<ParticipantParts, 'store' | 'federation' | 'trainer' | 'log'>): Promise<NodeState | undefined> {
  const saved = await store.load({ federationHash: federation, schemaHash: trainer.description.schema.hash })
  if (saved) log.info({ step: saved.step, exchanges: saved.exchanges }, 'going on from the last checkpoint')
  return saved
}

export function createCheckpointer(parts: CheckpointerParts): Checkpointer {
  const { participant, learner, before } = parts
  let saved: ParticipantReport['saved'] = before && { step: before.step, atMs: before.savedAtMs }
  let exchanges = before?.exchanges ?? 0
  return {
    async save() {
      const state = captureState(parts)
      exchanges = state.exchanges
      await participant.store.save(state)
      await parts.onSaved?.(state)
      saved = { step: state.step, atMs: state.savedAtMs }
    },
    isDue: () => learner.progress.rounds().exchanges - exchanges >= participant.config.checkpointEvery,
    saved: () => saved,
    bytesBefore: () => ({ sent: before?.bytesSent ?? 0, received: before?.bytesReceived ?? 0 })
  }
}

/** All of one tick: parameters, journal and counters belong together. */
function captureState({ participant, learner, before, keptWithIt }: CheckpointerParts): NodeState {
  const { federation, trainer, transport, clock } = participant
  const { parameters, optimiser, progress, rng } = learner
  const { step, exchanges, phase, lastExchangeStep, settled } = progress.rounds()
  const { bytesSent, bytesReceived } = transport.traffic()
  const { journal, inDoubt } = keptWithIt()
  return {
    federationHash: federation,
    schemaHash: trainer.description.schema.hash,
    step,
    exchanges,
    phase,
    parameters,
    adam: optimiser.state(),
    rng: { partners: rng.state() },
    cursor: optimiser.cursor(),
    journal: { ...journal, lastExchangeStep, settled } as unknown as JsonValue,
    inDoubt,
    bytesSent: (before?.bytesSent ?? 0) + bytesSent,
    bytesReceived: (before?.bytesReceived ?? 0) + bytesReceived,
    savedAtMs: clock.now()
  }
}
