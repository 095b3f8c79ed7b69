import { ACCEPT, reject, type Verdict } from '../../base/verdict.js'
import { decodeUpdateFrame } from '../../codec/wire/update-frame.js'
import { mostUpdateBytes } from '../../consensus/broadcast/broadcast.js'
import { published } from '../../consensus/broadcast/conversation.js'
import type { BroadcastVerdictCode } from '../../consensus/broadcast/types.js'
import type { PeerId } from '../../gossip/transport.js'
import { perform } from './effects.js'
import type { BroadcastRun } from './run.js'

/** Judges what comes on the topic of updates before it is passed on. */
export const validator =
  ({ parts }: BroadcastRun) =>
  (from: PeerId, bytes: Uint8Array): Verdict => {
    const { config, broadcaster, verify, transport, onVerdict } = parts
    if (from === transport.self) return ACCEPT
    const frame = decodeUpdateFrame(bytes)
    const verdict = frame.ok ? judged(frame.value) : frame.verdict
    if (verdict.verdict !== 'accept') onVerdict(from, verdict)
    return verdict

    function judged(read: (typeof frame & { ok: true })['value']): Verdict<BroadcastVerdictCode> {
      if (read.type === 'notice') {
        const { federation, sizeBytes } = read.notice
        if (federation !== config.federation) return reject('broadcast/other-federation')
        return sizeBytes <= mostUpdateBytes(config) ? ACCEPT : reject('codec/too-large', `${sizeBytes} bytes announced`)
      }
      if (read.update.author !== from) return reject('broadcast/not-the-author', read.update.author)
      return published(config, broadcaster.state(), read.update, verify)
    }
  }

/** Takes an update in, and asks the author for one that did not fit. */
export function deliver(run: BroadcastRun, from: PeerId, bytes: Uint8Array): void {
  const { transport, broadcaster, withLive, members } = run.parts
  const frame = decodeUpdateFrame(bytes)
  if (!frame.ok || from === transport.self || run.stopped) return
  if (frame.value.type === 'update') {
    const { update } = frame.value
    return perform(
      run,
      withLive(() => broadcaster.dispatch({ type: 'update', update, from }))
    )
  }
  // The author has it for certain; who is not connected to it hears of it from others.
  if (members().includes(from)) void run.synchronise(from)
}
