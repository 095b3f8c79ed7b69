import { foldSurplus } from '../consensus/broadcast-folding.js'
import { rebased } from '../consensus/broadcast-restart.js'
import type { BroadcastRun } from './broadcast-run.js'

/** Adds old updates up where too many bytes of them are kept, and begins the log anew behind the sum. */
export async function compact({ parts, heads }: BroadcastRun): Promise<void> {
  const { broadcaster, members, known, config, broadcastLog, maxHeldBytes } = parts
  const others = { said: heads, connected: members(), known: known(), self: config.self }
  if (foldSurplus(broadcaster, { ...others, ...(maxHeldBytes === undefined ? {} : { maxHeldBytes }) }))
    await broadcastLog?.rebase(() => rebased(broadcaster))
}
