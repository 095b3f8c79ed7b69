import type { BroadcastSnapshot } from '../consensus/broadcast-snapshot.js'
import { unitsHash } from '../consensus/fixed-point.js'
import type { PeerId } from '../gossip/transport.js'
import { rebased } from './broadcast-compaction.js'
import { talkWith } from './broadcast-conversation.js'
import type { BroadcastRun } from './broadcast-run.js'

/** Peers, besides the one that gave it, that must name a snapshot's hash; all others there are where there are fewer. */
export const SNAPSHOT_CONFIRMATIONS = 2

/** Takes a sum over once enough others have named its hash. */
export async function adopt(run: BroadcastRun, giver: PeerId, snapshot: BroadcastSnapshot): Promise<void> {
  const { members, broadcaster, withLive, log, broadcastLog } = run.parts
  const others = members().filter((peer) => peer !== giver)
  const hash = unitsHash(snapshot.units)
  let confirmed = 0
  for (const peer of others) {
    if (confirmed >= SNAPSHOT_CONFIRMATIONS) break
    const steps = await talkWith(run, peer, snapshot.heads)
    if (steps.some((step) => step.confirmed === hash)) confirmed++
  }
  const needed = Math.min(SNAPSHOT_CONFIRMATIONS, others.length)
  if (confirmed < needed) {
    log.warn({ giver, confirmed, needed }, 'a sum of old updates was not confirmed by others')
    return
  }
  if (!withLive(() => broadcaster.adopt(snapshot))) return
  run.sums.snapshots++
  log.info({ giver, confirmed }, 'took over the sum of old updates')
  await broadcastLog?.rebase(() => rebased(broadcaster))
}
