import type { Clock } from '../../base/clock.js'
import type { NodeState } from '../../checkpoint/state.js'
import { ABSENT_MS, isFull } from '../../consensus/broadcast/compaction.js'
import type { Broadcaster } from '../../consensus/broadcast/broadcaster.js'
import { contactMade, isIsolated } from '../../consensus/rounds.js'
import type { PeerId } from '../../gossip/transport.js'
import { type BroadcastDriver, createBroadcastDriver } from './driver.js'
import type { BroadcastParticipantParts } from './parts.js'
import { broadcastConfig, keptOf, recoverBroadcaster } from './recovery.js'
import { createCheckpointer, type Checkpointer } from '../learner/checkpointer.js'
import type { Learner } from '../learner/learner.js'
import { type Membership, surroundingsOf } from '../peers/membership.js'
import { createOwnMembership } from '../learner/own-membership.js'
import type { ParticipantReport } from '../participant/types.js'

/** A participant that broadcasts, from its start to its end. */
export interface BroadcastLife {
  readonly parts: BroadcastParticipantParts
  readonly learner: Learner
  readonly broadcaster: Broadcaster
  readonly withLive: WithLive
  readonly driver: BroadcastDriver
  readonly membership: Membership
  readonly checkpointer: Checkpointer
  readonly failure: AbortController
  /** Conversations that came to nothing. */
  failures: number
  evaluation: ParticipantReport['evaluation']
}

/** Brings the live parameters to the broadcaster, lets it work, and takes them back. */
type WithLive = <T>(work: () => T) => T

export async function createBroadcastLife(
  parts: BroadcastParticipantParts,
  learner: Learner,
  saved: NodeState | undefined
): Promise<BroadcastLife> {
  const { transport, clock, log, onVerdict, verify, broadcastLog, maxHeldBytes } = parts
  const failure = new AbortController()
  // What the broadcaster takes for the live parameters, float32[shared].
  const shared = learner.shared.take(learner.parameters)
  const withLive = liveIn(learner, shared)
  const config = broadcastConfig(parts, learner)
  const broadcaster = await recoverBroadcaster(parts, learner, { config, shared, saved })
  if (shared !== learner.parameters) learner.shared.put(shared, learner.parameters)
  const membership = createOwnMembership(parts, learner.progress)
  const driver = createBroadcastDriver({
    config,
    broadcaster,
    transport,
    verify,
    broadcastLog,
    clock,
    log,
    onVerdict,
    withLive,
    members: membership.members,
    isAround: aroundBy(membership, clock),
    onContact: () => learner.progress.setRounds(contactMade(learner.progress.rounds())),
    onBroken: (error) => failure.abort(error),
    ...(maxHeldBytes === undefined ? {} : { maxHeldBytes })
  })
  const keptWithIt = () => keptOf(broadcaster, learner, transport.self)
  const checkpointer = compacting(
    createCheckpointer({ participant: parts, learner, before: saved, keptWithIt }),
    driver
  )
  const state = { failures: 0, evaluation: undefined }
  return { parts, learner, broadcaster, withLive, driver, membership, checkpointer, failure, ...state }
}

/** Where everything is shared the two are one vector. */
const liveIn =
  ({ shared: selection, parameters }: Learner, shared: Float32Array): WithLive =>
  (work) => {
    if (shared !== parameters) shared.set(selection.take(parameters))
    const result = work()
    if (shared !== parameters) selection.put(shared, parameters)
    return result
  }

/** Who has not been heard of in this life is around for the first hour of it. */
function aroundBy(membership: Membership, clock: Clock): (peer: PeerId) => boolean {
  const startedAtMs = clock.now()
  return (peer) => {
    const heardAtMs = membership.table().records.get(peer)?.heardAtMs ?? startedAtMs
    return membership.members().includes(peer) || clock.now() - heardAtMs < ABSENT_MS
  }
}

/** After every checkpoint is a good time to compact old updates. */
const compacting = (checkpointer: Checkpointer, driver: BroadcastDriver): Checkpointer => ({
  ...checkpointer,
  async save() {
    await checkpointer.save()
    await driver.compact()
  }
})

/** One conversation with a peer; counts the ones that come to nothing. */
export async function talk(life: BroadcastLife, peer: PeerId): Promise<void> {
  if (!(await life.driver.synchronise(peer))) life.failures++
}

/**
 * What it waits for before it trains on: `contact`, too long without the others, as in pairs, unless there is nobody; `room`,
 * most others must have what is kept for them.
 */
export function waitsFor({ parts, learner, membership, broadcaster }: BroadcastLife): 'contact' | 'room' | undefined {
  const surroundings = surroundingsOf(membership, parts.clock.now())
  if (isIsolated(learner.progress.rounds(), surroundings, learner.roundsConfig)) return 'contact'
  return isFull(broadcaster, parts.maxHeldBytes) ? 'room' : undefined
}

export const pause = ({ parts }: BroadcastLife, ms: number, stop: AbortSignal): Promise<void> =>
  parts.clock.sleep(ms, stop).catch(() => undefined)
