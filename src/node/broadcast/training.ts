import { claimedShare } from '../../consensus/claimed-share.js'
import { present } from '../../consensus/partners/peers.js'
import { type BroadcastLife, pause, talk, waitsFor } from './life.js'
import { IDLE_MS } from '../learner/loop.js'

/**
 * Milliseconds that a peer waits before its first update for the others to say who they are: its weight depends on theirs,
 * and its own chain may be longer than its disk knows.
 */
const GREETING_MS = 15_000

/** Local steps; every `localSteps` of them, and after the last, what was learned is told. Far from the others, or with no room for more, it waits. */
export async function train(life: BroadcastLife, stop: AbortSignal): Promise<void> {
  const { learner, checkpointer, failure } = life
  const { progress, optimiser, roundsConfig } = learner
  let greeted = false
  while (!stop.aborted && progress.rounds().phase === 'training') {
    if (waitsFor(life) !== undefined) {
      await seekContact(life, stop)
      continue
    }
    const loss = await optimiser.step()
    const step = progress.rounds().step + 1
    if (step % roundsConfig.localSteps === 0 || step >= roundsConfig.totalSteps) {
      if (!greeted) await greet(life, stop)
      greeted = true
      tell(life)
    }
    if (step >= roundsConfig.totalSteps) tellTheRest(life)
    // Told before the phase changes: who hears of it may ask for our last update at once.
    progress.stepped(loss)
    if (checkpointer.isDue()) checkpointer.save().catch((error) => failure.abort(error))
  }
}

/** One conversation with somebody there, or a pause: what it brings is noted where it is heard, and may make room. */
async function seekContact(life: BroadcastLife, stop: AbortSignal): Promise<void> {
  const { learner, membership, driver } = life
  const members = membership.members()
  if (members.length > 0) await talk(life, members[learner.rng.integer(members.length)]!)
  if (waitsFor(life) === 'room') await driver.compact()
  if (waitsFor(life) !== undefined) await pause(life, 20 * IDLE_MS, stop)
}

/** Waits until those who are there have said who they are, and one of them what it has of us. */
async function greet(life: BroadcastLife, stop: AbortSignal): Promise<void> {
  const { parts, membership, driver } = life
  const { clock } = parts
  const untilMs = clock.now() + GREETING_MS
  while (!stop.aborted && clock.now() < untilMs) {
    const members = membership.members()
    const heard = membership.table().records
    if (members.length > 0 && members.every((peer) => heard.has(peer))) {
      for (const peer of members) if (driver.heads(peer) === undefined) await talk(life, peer)
      if (members.some((peer) => driver.heads(peer) !== undefined)) return
    }
    await pause(life, 4 * IDLE_MS, stop)
  }
}

function tell(life: BroadcastLife): void {
  const { parts, learner, driver } = life
  const { progress } = learner
  driver.publish(claimedShare(parts.dataset.size, othersSamples(life)))
  const rounds = progress.rounds()
  progress.setRounds({ ...rounds, exchanges: rounds.exchanges + 1 })
}

/** Training examples of each of the others heard of lately, as they say. */
function othersSamples({ parts, membership }: BroadcastLife): number[] {
  const table = membership.table()
  return present(table, parts.clock.now())
    .filter((peer) => peer !== parts.transport.self)
    .map((peer) => table.records.get(peer)?.announcement.samples ?? 0)
}

/**
 * What updates have left out is told in some more of them, as settling exchanges are made in pairs; then there is nothing
 * of our own any more, and the parameters are the replica, to the last bit.
 */
function tellTheRest(life: BroadcastLife): void {
  const { learner, broadcaster, withLive } = life
  for (let n = 0; n < learner.roundsConfig.settleExchanges; n++) tell(life)
  withLive(() => broadcaster.onReplica())
}
