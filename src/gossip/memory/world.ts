import type { Clock } from '../../base/clock.js'
import type { Logger } from '../../base/log.js'
import type { Channel, PeerId, Transport } from '../transport.js'

export interface MemoryJoin {
  /** Peer id and address (`/memory/<name>/p2p/<name>`) at once. */
  readonly name: PeerId
  readonly networkKey?: string
  /** The only topics allowed; any when absent. */
  readonly topics?: readonly string[]
  readonly maxFrameBytes?: number
  readonly maxChannelsPerPeer?: number
}

export interface Announcement {
  readonly id: string
  readonly topic: string
  readonly author: PeerId
  readonly bytes: Uint8Array
}

/** One member as the others and the network see it. */
export interface MemoryPeer {
  readonly transport: Transport
  readonly networkKey: string | undefined
  readonly maxFrameBytes: number
  isRunning(): boolean
  isBanned(peer: PeerId): boolean
  speaks(protocol: string): boolean
  listensTo(topic: string): boolean
  isConnected(peer: PeerId): boolean
  link(peer: PeerId): void
  unlink(peer: PeerId): void
  hear(announcement: Announcement, passedOnBy: PeerId, again: boolean): void
  answer(channel: Channel, protocol: string): void
  count(direction: 'sent' | 'received', other: PeerId, bytes: number): void
  dropUnreachable(): void
}

/** What transports see of their network. */
export interface MemoryWorld {
  readonly clock: Clock
  readonly log: Logger
  find(name: string): MemoryPeer | undefined
  reachable(a: PeerId, b: PeerId): boolean
  refuses(peer: PeerId): boolean
  latencyMs(): number
  /** How often one hop of an announcement arrives: 0, 1 or 2 times. */
  arrivals(): 0 | 1 | 2
  /** Frames that get through from the opener and from the answerer. */
  cutAfter(opener: PeerId, answerer: PeerId, protocol: string): readonly [number, number] | undefined
  rejected(peer: PeerId): void
}
