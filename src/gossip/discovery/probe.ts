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

/** Milliseconds until a keyed node has spoken, and until an open one has answered. */
const PATIENCE_MS = 700

const MULTISTREAM = '\x13/multistream/1.0.0\n'

/**
 * A failed handshake says "unexpected end of input" for a wrong key, a web server and a full node alike. This second
 * look, made only after a failure, tells them apart: it listens first, then speaks multistream-select.
 */
export async function probe(host: string, port: number, clock: Clock): Promise<ProbeResult> {
  const socket = connect({ host, port })
  const heard: Buffer[] = []
  let closed = false
  let failed = false
  const settled = new Promise<void>((resolve) => {
    socket.once('error', () => {
      failed = heard.length === 0 && socket.bytesWritten === 0
      resolve()
    })
    socket.once('close', () => {
      closed = true
      resolve()
    })
  })
  const word = () => new Promise<void>((resolve) => socket.once('data', () => resolve()))
  socket.on('data', (chunk) => {
    // Enough to tell, and no more than that is kept.
    if (heard.length < 4) heard.push(chunk.subarray(0, 64))
  })
  try {
    await atMost(PATIENCE_MS, Promise.race([settled, word()]), clock)
    const first = Buffer.concat(heard)
    if (first.length > 0) return classify(first)
    if (!closed && !failed) {
      socket.write(MULTISTREAM)
      await atMost(PATIENCE_MS, Promise.race([settled, word()]), clock)
    }
    if (heard.length > 0) return classify(Buffer.concat(heard))
    return { kind: failed ? 'unreachable' : closed ? 'closed' : 'silent' }
  } finally {
    socket.on('error', () => undefined)
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
