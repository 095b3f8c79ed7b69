import { SETTLE_PATIENCE_MS, waited } from '../../consensus/rounds.js'
import { type BroadcastLife, pause, talk } from './life.js'
import { IDLE_MS } from '../learner/loop.js'
import { surroundingsOf } from '../peers/membership.js'

/** Until everybody there has stopped training and counted the same as we have; not for ever. */
export async function settle(life: BroadcastLife, stop: AbortSignal): Promise<void> {
  const { parts, learner, membership, driver } = life
  const { progress, roundsConfig } = learner
  const onlyTime = { ...roundsConfig, settleExchanges: Number.POSITIVE_INFINITY }
  while (!stop.aborted && progress.rounds().phase === 'settling') {
    const around = { ...surroundingsOf(membership, parts.clock.now()), waitedMs: progress.waitedMs() }
    const members = membership.members()
    if (members.length > 0 && (!around.othersTraining || around.waitedMs >= SETTLE_PATIENCE_MS)) {
      for (const peer of members) if (!stop.aborted && !driver.agreesWith(peer)) await talk(life, peer)
      if (members.every((peer) => driver.agreesWith(peer))) progress.setRounds({ ...progress.rounds(), phase: 'done' })
    }
    progress.setRounds(waited(progress.rounds(), around, onlyTime))
    if (progress.rounds().phase === 'settling') await pause(life, 20 * IDLE_MS, stop)
  }
}
