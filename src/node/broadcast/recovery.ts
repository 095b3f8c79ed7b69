import { PeertuneError } from '../../base/errors.js'
import { seededRng } from '../../base/rng.js'
import type { NodeState } from '../../checkpoint/state.js'
import { pseudoGradientCodec } from '../../codec/registry.js'
import { ownUpdates, restarted, type Untold } from '../../consensus/broadcast/restart.js'
import type { BroadcastConfig } from '../../consensus/broadcast/types.js'
import type { Broadcaster } from '../../consensus/broadcast/broadcaster.js'
import type { PeerId } from '../../gossip/transport.js'
import { subtract } from '../../tensor/linear.js'
import type { BroadcastParticipantParts } from './parts.js'
import type { KeptWithIt } from '../learner/checkpointer.js'
import type { Learner } from '../learner/learner.js'
import { journalOf, type SavedJournal } from '../learner/recovery.js'

/** In a checkpoint beside the exchange journal, which stays empty. */
interface SavedChain {
  /** Number of our last update when the checkpoint was made. */
  readonly ownUpdates?: number
}

/** Sections of a checkpoint: what was learned and not told, float32[whole]. */
const PROGRESS = 'broadcast/progress'
const RESIDUAL = 'broadcast/residual'

/** What a checkpoint keeps of the broadcaster; the log has the rest. */
export function keptOf(broadcaster: Broadcaster, { shared, parameters }: Learner, self: PeerId): KeptWithIt {
  const journal: KeptWithIt['journal'] & SavedChain = {
    inDoubt: [],
    accepted: [],
    ownUpdates: ownUpdates(broadcaster, self)
  }
  return {
    journal,
    inDoubt: {
      [PROGRESS]: shared.expand(subtract(shared.take(parameters), broadcaster.replica)),
      [RESIDUAL]: shared.expand(broadcaster.saved().residual)
    }
  }
}

/**
 * All that was counted is in the log, whatever the checkpoint knows; of what was learned and not told, what the
 * checkpoint has, if nothing has been told since.
 */
export async function recoverBroadcaster(
  { broadcastLog, trainer, manifest, sign, config: { training }, transport }: BroadcastParticipantParts,
  learner: Learner,
  {
    config,
    shared,
    saved
  }: { readonly config: BroadcastConfig; readonly shared: Float32Array; readonly saved: NodeState | undefined }
): Promise<Broadcaster> {
  const record = (await broadcastLog?.load()) ?? { base: undefined, entries: [] }
  const parts = {
    config,
    reference: learner.shared.take(trainer.description.initial),
    live: shared,
    decay: manifest.mixing.broadcast!.decay,
    resumeAt: manifest.mixing.broadcast!.resumeAt,
    sign,
    rng: seededRng(training.seed, transport.self, 'rounding')
  }
  return restarted(parts, record, untoldOf(saved, learner))
}

function untoldOf(saved: NodeState | undefined, { shared }: Learner): Untold | undefined {
  const { [PROGRESS]: progress, [RESIDUAL]: residual } = saved?.inDoubt ?? {}
  const { ownUpdates: told } = journalOf(saved) as SavedJournal & SavedChain
  if (progress === undefined || residual === undefined || told === undefined) return undefined
  return { progress: shared.take(progress), residual: shared.take(residual), ownUpdates: told }
}

/** What the federation has agreed on, for us. */
export function broadcastConfig(
  { manifest, transport, federation }: BroadcastParticipantParts,
  { shared }: Learner
): BroadcastConfig {
  const { broadcast } = manifest.mixing
  if (broadcast === undefined)
    throw new PeertuneError('config/no-broadcast', 'the manifest says nothing of what is broadcast', {
      hint: 'mixing.mode: broadcast'
    })
  const { codec, fraction, outerStep, maxStep, maxNorm, maxAuthors, authors } = broadcast
  return {
    self: transport.self,
    federation,
    schemaHash: shared.schema.hash,
    rule: {
      codec: pseudoGradientCodec(codec, { fraction }),
      size: shared.schema.size,
      outerStep,
      maxStep,
      ...(maxNorm === undefined ? {} : { maxNorm })
    },
    maxAuthors,
    ...(authors === undefined ? {} : { authors })
  }
}
