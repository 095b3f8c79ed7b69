import type { Connection, ConnectionGater } from '@libp2p/interface'
import { type Multiaddr, multiaddr } from '@multiformats/multiaddr'
import type { Clock } from '../../base/clock.js'
import type { Bans } from '../bans.js'
import { bounded } from '../bounded.js'
import { asError } from '../channel.js'
import type { Candidate } from '../discovery/discovery.js'
import type { Node } from './config.js'
import { explainDialFailure, parseAddress, sentences } from './connect.js'
import { DHT_PROTOCOL } from '../topics.js'
import type { ConnectOutcome, PeerId } from '../transport.js'

export interface DialerOptions {
  readonly self: PeerId
  readonly bans: Bans
  readonly hasNetworkKey: boolean
  readonly timeoutMs: number
  /** For the second look at a port where a handshake failed. */
  readonly probeTimeoutMs: number
  readonly clock: Clock
  readonly stopped: AbortSignal
}

export interface Dialer {
  /** For libp2p: every connection passes it, our own dials and those of its DHT. */
  readonly gater: ConnectionGater
  connect(node: Node, address: string): Promise<ConnectOutcome>
  dialCandidate(node: Node, candidate: Candidate): Promise<boolean>
}

/** Remembered impostors: a dial fails a moment after the gater saw one. */
const MAX_IMPOSTORS = 64

export function createDialer(options: DialerOptions): Dialer {
  const { self, bans, hasNetworkKey, timeoutMs, probeTimeoutMs, clock, stopped } = options
  const isBanned = (peer: { toString(): string }) => bans.remainingMs(peer.toString()) > 0
  const impostors = new Map<PeerId, PeerId>()
  const inTime = <T>(work: (signal: AbortSignal) => Promise<T>) => bounded(work, timeoutMs, stopped)

  const gater: ConnectionGater = {
    denyDialPeer: isBanned,
    denyInboundEncryptedConnection: isBanned,
    // libp2p 2.10 never compares who was dialled with who answered: without this check anybody at the right address
    // passes for the peer one asked for.
    denyOutboundEncryptedConnection: (peer, connection) => {
      const expected = connection.remoteAddr.getPeerId()
      if (expected === null || expected === peer.toString()) return isBanned(peer)
      if (impostors.size >= MAX_IMPOSTORS) impostors.clear()
      impostors.set(expected, peer.toString())
      return true
    }
  }

  const connect = async (node: Node, address: string): Promise<ConnectOutcome> => {
    const target = parseAddress(address)
    if ('ok' in target) return target
    const expected = target.getPeerId() ?? undefined
    if (expected === self) return sentences.self(address)
    const bannedMs = expected === undefined ? 0 : bans.remainingMs(expected)
    if (expected !== undefined && bannedMs > 0) return sentences.banned(address, expected, bannedMs)
    try {
      const connection = await inTime((signal) => node.dial(target, { signal }))
      return await inTime((signal) => greet(node, address, connection, signal))
    } catch (error) {
      const impostor = expected === undefined ? undefined : impostors.get(expected)
      if (expected !== undefined && impostor !== undefined) {
        impostors.delete(expected)
        return sentences.wrongPeer(address, expected, impostor)
      }
      if (error instanceof Error && error.message === 'Can not dial self') return sentences.self(address)
      return explainDialFailure({ address, target, error, hasNetworkKey, timeoutMs, probeTimeoutMs, clock })
    }
  }

  return {
    gater,
    connect,
    dialCandidate: async (node, candidate) => {
      const targets = candidate.addresses.flatMap((address) => withPeer(address, candidate.peer))
      if (targets.length === 0) return false
      try {
        await inTime((signal) => node.dial(targets, { signal }))
        return true
      } catch {
        return false
      }
    }
  }
}

/** The dial succeeded; does the node there speak peertune, and does it keep the connection? */
async function greet(
  node: Node,
  address: string,
  connection: Connection,
  signal: AbortSignal
): Promise<ConnectOutcome> {
  const peer = connection.remotePeer
  try {
    const { protocols, agentVersion } = await node.services.identify.identify(connection, { signal })
    if (protocols.includes(DHT_PROTOCOL)) return { ok: true, peer: peer.toString() }
    await connection.close()
    return sentences.notPeertune(address, agentVersion ?? 'some other libp2p program')
  } catch (error) {
    // Refused peers (a ban, too many connections) see the handshake succeed and the connection end.
    if (connection.status !== 'open') return sentences.dropped(address)
    connection.abort(asError(error))
    // Other programs may answer only the first of two identify requests, the one libp2p made by itself.
    const known = await node.peerStore.get(peer).catch(() => undefined)
    const unsupported = error instanceof Error && error.name === 'UnsupportedProtocolError'
    return unsupported || known?.protocols.includes(DHT_PROTOCOL) === false
      ? sentences.notPeertune(address, 'some other libp2p program')
      : isTimeout(error)
        ? sentences.mute(address)
        : sentences.dropped(address)
  }
}

const isTimeout = (error: unknown): boolean =>
  error instanceof Error && (error.name === 'TimeoutError' || error.name === 'AbortError')

/** The address with the peer id at its end; nothing for an address that names somebody else or is none. */
function withPeer(address: string, peer: PeerId): Multiaddr[] {
  try {
    const parsed = multiaddr(address)
    const named = parsed.getPeerId()
    if (named === null) return [parsed.encapsulate(`/p2p/${peer}`)]
    return named === peer ? [parsed] : []
  } catch {
    return []
  }
}
