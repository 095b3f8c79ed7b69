import type { Clock } from '../../base/clock.js'
import { describeError, PeertuneError } from '../../base/errors.js'
import type { Logger } from '../../base/log.js'
import type { PeerId } from '../../gossip/transport.js'
import { readTextFile } from './text-file.js'

/** Bytes of a deny list: some 18,000 peer ids. */
const MAX_DENY_LIST_BYTES = 1_048_576
/** Milliseconds between two looks at the file. */
const DENY_LIST_POLL_MS = 1_000

const PEER_ID = /^[1-9A-HJ-NP-Za-km-z]{40,64}$/

/** Peer ids, one a line; empty lines and what follows a `#` count for nothing. Throws `config/bad-deny-list` with the line. */
export function parseDenyList(file: string, text: string): ReadonlySet<PeerId> {
  const peers = new Set<PeerId>()
  for (const [at, line] of text.split('\n').entries()) {
    const peer = (line.split('#')[0] ?? '').trim()
    if (peer === '') continue
    if (!PEER_ID.test(peer))
      throw new PeertuneError(
        'config/bad-deny-list',
        `${file}:${at + 1}: expected a peer id, got ${peer.slice(0, 80)}`,
        {
          facts: { file, line: at + 1 },
          hint: 'one peer id a line, as peertune identity and the status page print it'
        }
      )
    peers.add(peer)
  }
  return peers
}

/** Throws `config/bad-deny-list` and `config/unreadable-file`. */
export const readDenyList = async (file: string): Promise<ReadonlySet<PeerId>> =>
  parseDenyList(file, await readTextFile(file, MAX_DENY_LIST_BYTES))

export interface DenyListWatch {
  readonly file: string
  readonly onChange: (peers: ReadonlySet<PeerId>) => void
  readonly clock: Clock
  readonly log: Logger
}

/** Looks at the file until the signal aborts. One that cannot be read changes nothing: the last good list stays in force. */
export async function watchDenyList({ file, onChange, clock, log }: DenyListWatch, signal: AbortSignal): Promise<void> {
  let before: string | undefined
  let complaint: string | undefined
  while (!signal.aborted) {
    try {
      const text = await readTextFile(file, MAX_DENY_LIST_BYTES)
      if (text !== before) onChange(parseDenyList(file, text))
      before = text
      complaint = undefined
    } catch (error) {
      const words = describeError(error)
      if (words !== complaint)
        log.warn({ error: words }, 'the deny list cannot be used; the last good one stays in force')
      complaint = words
    }
    await clock.sleep(DENY_LIST_POLL_MS, signal).catch(() => undefined)
  }
}
