import { describeError } from '../../base/errors.js'
import type { Update } from '../../codec/wire/update.js'
import { encodeUpdateFrame } from '../../codec/wire/update-frame.js'
import type { OpenEffect } from '../../consensus/broadcast/broadcaster.js'
import { updatesTopic } from '../../gossip/topics.js'
import { type BroadcastRun, judge, safe } from './run.js'

/** Does what the broadcaster has decided. */
export function perform(run: BroadcastRun, effects: readonly OpenEffect[]): void {
  const { broadcastLog, log, onBroken, onContact, members, transport } = run.parts
  for (const effect of effects) {
    if (effect.type === 'record') {
      run.counters.counted += effect.entry.kind === 'update' ? 1 : 0
      if (effect.entry.kind === 'update' && effect.entry.update.author !== transport.self) onContact()
      broadcastLog?.append(effect.entry)
      broadcastLog?.synced().catch(onBroken)
    } else if (effect.type === 'publish') {
      run.counters.published++
      // On disk before anybody hears of it: never two updates with one number.
      safe(run).then(
        () => tell(run, effect.update),
        () => undefined
      )
    } else if (effect.type === 'missing') {
      if (members().includes(effect.from)) void run.synchronise(effect.from)
    } else if (effect.type === 'equivocation') {
      run.counters.equivocations++
      log.warn(
        { author: effect.author, sequence: effect.pair[0].sequence },
        'an author has equivocated: two updates with one number'
      )
      for (const peer of members()) void run.synchronise(peer)
    } else judge(run, effect.peer, effect.verdict)
  }
}

async function tell({ parts, counters }: BroadcastRun, update: Update): Promise<void> {
  const { transport, config, log } = parts
  const bytes = encodeUpdateFrame(update)
  counters.sent += bytes.length
  try {
    await transport.publish(updatesTopic(config.federation), bytes)
  } catch (error) {
    // Whoever missed it asks for it.
    log.debug({ error: describeError(error) }, 'could not publish an update')
  }
}
