import { compactSurplus } from '../../consensus/broadcast/compaction.js'
import { rebased } from '../../consensus/broadcast/restart.js'
import type { PeerId } from '../../gossip/transport.js'
import type { BroadcastRun } from './run.js'

/** Compacts old updates where too many bytes of them are kept, and begins the log anew with the snapshot. */
export async function compact(run: BroadcastRun): Promise<void> {
  const { broadcaster, members, isAround, config, broadcastLog, maxHeldBytes } = run.parts
  const counted = electors(run)
  const parts = { said: run.heads, connected: members(), counted, around: counted.filter(isAround), self: config.self }
  if (compactSurplus(broadcaster, { ...parts, ...(maxHeldBytes === undefined ? {} : { maxHeldBytes }) }))
    await broadcastLog?.rebase(() => rebased(broadcaster))
}

/** Authors, and those that are here and have said what they have, within the manifest's list where it has one. */
function electors({ parts: { broadcaster, members, config }, heads }: BroadcastRun): readonly PeerId[] {
  const here = members().filter((peer) => heads.has(peer))
  const all = new Set([...broadcaster.state().authors.keys(), ...here])
  return [...all].filter((peer) => peer !== config.self && config.authors?.includes(peer) !== false)
}
