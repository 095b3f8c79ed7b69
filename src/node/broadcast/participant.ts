import { type BroadcastLife, createBroadcastLife, pause, talk, waitsFor } from './life.js'
import type { BroadcastParticipantParts } from './parts.js'
import { settle } from './settling.js'
import { train } from './training.js'
import { lastSaved } from '../learner/checkpointer.js'
import { conclude, createLearner } from '../learner/learner.js'
import { IDLE_MS } from '../learner/loop.js'
import type { Participant, ParticipantReport } from '../participant/types.js'
import { ownReport } from '../learner/own-report.js'

/** Milliseconds between two conversations without a reason: what got lost on the way is found by then. */
const SYNC_INTERVAL_MS = 5_000

/** A node of a federation that broadcasts: trains, tells what it learned, and counts what others tell. */
export async function createBroadcastParticipant(parts: BroadcastParticipantParts): Promise<Participant> {
  const saved = await lastSaved(parts)
  const life = await createBroadcastLife(parts, createLearner(parts, saved), saved)
  return { run: (signal) => live(life, signal), report: () => reportOf(life) }
}

function reportOf(life: BroadcastLife): ParticipantReport {
  const { parts, learner, checkpointer, driver, membership, evaluation, failures } = life
  const waiting = waitsFor(life)
  return {
    ...ownReport(learner, checkpointer, evaluation),
    failures: failures === 0 ? {} : { 'broadcast/no-conversation': failures },
    broadcast: driver.stats(),
    ...(waiting === undefined ? {} : { waitsFor: waiting }),
    membership,
    caughtUp: undefined,
    statesGiven: 0,
    neighbours: undefined,
    exchangesWith: (peer) =>
      driver.stats().heads.find(({ author }) => author === peer && author !== parts.transport.self)?.sequence ?? 0
  }
}

async function live(life: BroadcastLife, signal: AbortSignal): Promise<void> {
  const { parts, learner, driver, membership, checkpointer, failure } = life
  const stop = AbortSignal.any([signal, failure.signal])
  driver.start()
  const announcing = membership.run(stop)
  const syncing = keepInSync(life, stop)
  const unwatch = learner.progress.onPhase(() => void membership.announce())
  try {
    await train(life, stop)
    await settle(life, stop)
    await stay(life, stop)
  } finally {
    unwatch()
    await driver.stop()
    await Promise.all([announcing, syncing])
    await checkpointer.save()
    await parts.broadcastLog?.close()
  }
  if (failure.signal.aborted) throw failure.signal.reason
}

/** One conversation now and then with somebody. */
async function keepInSync(life: BroadcastLife, stop: AbortSignal): Promise<void> {
  const { membership, learner } = life
  while (!stop.aborted) {
    const members = membership.members()
    if (members.length > 0) await talk(life, members[learner.rng.integer(members.length)]!)
    await pause(life, members.length === 0 ? 10 * IDLE_MS : SYNC_INTERVAL_MS, stop)
  }
}

/** Measured and handed out at once, and again whenever somebody who came later has changed what all agree on. */
async function stay(life: BroadcastLife, stop: AbortSignal): Promise<void> {
  const { parts, learner, membership, driver } = life
  let concluded: string | undefined
  while (!stop.aborted) {
    const { replicaHash } = driver.stats()
    const agreed = concluded === undefined || membership.members().every(driver.agreesWith)
    if (replicaHash !== concluded && agreed) {
      if (concluded === undefined) await membership.announce()
      concluded = replicaHash
      life.evaluation = await conclude(parts, learner, life.checkpointer.save)
    }
    await pause(life, 40 * IDLE_MS, stop)
  }
}
