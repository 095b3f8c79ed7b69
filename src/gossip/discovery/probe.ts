import { connect } from 'node:net'
import { atMost } from '../channel.js'
import type { Clock } from '../../base/clock.js'

/** What listens at a TCP port, told by its first bytes. */
export type ProbeResult =
  /** A libp2p node without a network key. */
  | { readonly kind: 'libp2p' }
  /** A libp2p node with a network key: it speaks first, 24 bytes of nonce, and waits for ours. */
  | { readonly kind: 'keyed' }
  /** Something else, with the start of what it said, printable characters only. */
  | { readonly kind: 'other'; readonly said: string }
  | { readonly kind: 'silent' }
  /** It closed without a word: full, or refusing this node. */
  | { readonly kind: 'closed' }
  | { readonly kind: 'unreachable' }

/** Bytes of the pre-shared-key nonce (Private-Networks-PSK-V1). */
const NONCE_BYTES = 24

const MULTISTREAM = '\x13/multistream/1.0.0\n'

/**
 * A failed handshake says "unexpected end of input" for a wrong key, a web server and a full node alike. This second
 * look, made only after a failure, tells them apart by the first word that comes within `timeoutMs`. It speaks
 * multistream-select at once: a node without a network key answers it, one with a key sends its nonce whatever it hears.
 */
export async function probe(
  host: string,
  port: number,
  { timeoutMs, clock }: { readonly timeoutMs: number; readonly clock: Clock }
): Promise<ProbeResult> {
  const socket = connect({ host, port })
  const heard: Buffer[] = []
  let connected = false
  let closed = false
  socket.once('connect', () => {
    connected = true
    socket.write(MULTISTREAM)
  })
  const ended = new Promise<void>((resolve) => {
    socket.once('data', (chunk) => {
      // Enough to tell, and no more than that is kept.
      heard.push(chunk.subarray(0, 64))
      resolve()
    })
    socket.on('error', () => undefined)
    socket.once('close', () => {
      closed = true
      resolve()
    })
  })
  try {
    await atMost(timeoutMs, ended, clock)
    const [first] = heard
    if (first !== undefined) return classify(first)
    return { kind: connected ? (closed ? 'closed' : 'silent') : 'unreachable' }
  } finally {
    socket.destroy()
  }
}

function classify(heard: Buffer): ProbeResult {
  const text = heard.toString('latin1')
  if (text.includes('/multistream/1.0.0')) return { kind: 'libp2p' }
  const printable = /^[\x20-\x7e\r\n\t]*$/.test(text)
  if (heard.length === NONCE_BYTES && !printable) return { kind: 'keyed' }
  return {
    kind: 'other',
    said: text
      .replace(/[^\x20-\x7e]+/g, ' ')
      .trim()
      .slice(0, 40)
  }
}
