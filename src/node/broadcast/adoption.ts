import { createAdoption } from '../../consensus/broadcast/adoption.js'
import { rebased } from '../../consensus/broadcast/restart.js'
import type { BroadcastSnapshot } from '../../consensus/broadcast/snapshot.js'
import type { PeerId } from '../../gossip/transport.js'
import { talkWith } from './conversation.js'
import type { BroadcastRun } from './run.js'

/** Adopts a snapshot once enough others have named its hash. */
export async function adopt(run: BroadcastRun, giver: PeerId, snapshot: BroadcastSnapshot): Promise<void> {
  const { members, broadcaster, withLive, log, broadcastLog } = run.parts
  const adoption = createAdoption(giver, snapshot, members())
  for (let peer = adoption.next(); peer !== undefined; peer = adoption.next()) {
    const steps = await talkWith(run, peer, snapshot.heads)
    adoption.heard(steps.find((step) => step.confirmed !== undefined)?.confirmed)
  }
  if (!adoption.believed()) {
    log.warn({ giver, ...adoption.answers() }, 'a snapshot of old updates was not confirmed by others')
    return
  }
  if (!withLive(() => broadcaster.adopt(snapshot))) return
  run.counters.snapshots++
  log.info({ giver, ...adoption.answers() }, 'adopted a snapshot of old updates')
  await broadcastLog?.rebase(() => rebased(broadcaster))
}
