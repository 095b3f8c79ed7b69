import { reject, type Verdict } from '../../base/verdict.js'
import type { Head } from '../../codec/wire/update.js'
import {
  createSyncConversation,
  MAX_SYNC_MESSAGES,
  type ConversationStep,
  type SyncConversation,
  tooManyMessages
} from '../../consensus/broadcast/conversation.js'
import type { BroadcastVerdictCode } from '../../consensus/broadcast/types.js'
import { SYNC_PROTOCOL } from '../../gossip/topics.js'
import type { Channel, PeerId } from '../../gossip/transport.js'
import { readSync, writeSync } from './channel.js'
import { perform } from './effects.js'
import { type BroadcastRun, judge, remember, safe } from './run.js'
import { openChannel } from '../peers/open-channel.js'

/** Milliseconds for one frame; also for opening a channel. */
const SYNC_FRAME_TIMEOUT_MS = 30_000

/** Conversations under way at once, either way. */
export const MAX_SYNCS_AT_ONCE = 32

/** Opens a conversation and leads it to its end; with `confirm`, also for the hash at these heads. */
export async function talkWith(
  run: BroadcastRun,
  peer: PeerId,
  confirm: readonly Head[] | undefined
): Promise<readonly ConversationStep[]> {
  const { transport, clock } = run.parts
  const channel = await openChannel(transport, clock, {
    peer,
    protocol: SYNC_PROTOCOL,
    timeoutMs: SYNC_FRAME_TIMEOUT_MS
  })
  if (typeof channel === 'string') return []
  const machine = conversationWith(run, peer, confirm)
  const steps = await converse(run, { channel, machine }, machine.begin())
  await channel.close().catch(() => undefined)
  return steps
}

/** The other end of one. */
export async function answer(run: BroadcastRun, channel: Channel): Promise<void> {
  const { peer } = channel
  if (run.stopped || run.channels.size >= MAX_SYNCS_AT_ONCE || !run.passes(peer)) return channel.close()
  await converse(run, { channel, machine: conversationWith(run, peer) }, [])
}

const conversationWith = (
  { parts: { config, broadcaster, verify } }: BroadcastRun,
  peer: PeerId,
  confirm?: readonly Head[]
): SyncConversation =>
  createSyncConversation({ config, broadcaster, verify, peer, ...(confirm === undefined ? {} : { confirm }) })

interface Conversation {
  readonly channel: Channel
  readonly machine: SyncConversation
}

/** Either end of a conversation, `first` said first: reads until both have said all. Rejects for our own bugs only. */
async function converse(
  run: BroadcastRun,
  { channel, machine }: Conversation,
  first: ConversationStep['replies']
): Promise<readonly ConversationStep[]> {
  const { peer } = channel
  const steps: ConversationStep[] = []
  const endWith = (verdict: Verdict<BroadcastVerdictCode>): readonly ConversationStep[] => {
    giveUp(run, channel, verdict)
    return steps
  }
  const onBytes = (count: number): Verdict<BroadcastVerdictCode> | undefined => {
    run.counters.received += count
    return run.byteBudget(peer, count) ? undefined : reject('broadcast/over-byte-budget')
  }
  run.channels.add(channel)
  try {
    if (!(await send(run, channel, first))) return steps
    for (let messages = 0; ; messages++) {
      const incoming = await readSync(channel, { conversation: machine, timeoutMs: SYNC_FRAME_TIMEOUT_MS, onBytes })
      if (incoming.kind === 'end') return steps
      if (incoming.kind === 'unreadable') return endWith(incoming.verdict)
      if (messages >= MAX_SYNC_MESSAGES) return endWith(tooManyMessages())
      const step = run.parts.withLive(() => machine.take(incoming.message))
      steps.push(step)
      perform(run, step.effects)
      if (step.heads !== undefined) remember(run, peer, step.heads)
      if (step.verdict !== undefined) return endWith(step.verdict)
      if (step.over) run.parts.onContact()
      if (!(await send(run, channel, step.replies)) || step.over) return steps
    }
  } finally {
    run.channels.delete(channel)
  }
}

function giveUp(run: BroadcastRun, channel: Channel, verdict: Verdict<BroadcastVerdictCode>): void {
  channel.abort(new Error(verdict.verdict === 'accept' ? 'unreadable' : verdict.code))
  judge(run, channel.peer, verdict)
}

/** False where the link has broken. What we say we have is on disk before we say it. */
async function send(run: BroadcastRun, channel: Channel, messages: ConversationStep['replies']): Promise<boolean> {
  if (messages.length === 0) return true
  await safe(run)
  try {
    for (const message of messages)
      await writeSync(channel, message, (count) => {
        run.counters.sent += count
      })
    return true
  } catch {
    return false
  }
}
