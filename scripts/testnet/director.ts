import type { Clock } from '../../src/base/clock.js'
import { type Disturbances, halfOf } from './disturbances.js'
import type { TestnetPeer } from './testnet-peer.js'

/** What was done to the network, and when. */
export interface TimelineEntry {
  readonly kind: 'started' | 'killed' | 'split' | 'healed'
  /** Seconds since the first peer was started. */
  readonly seconds: number
  readonly what: string
}

/** Disturbs a running network by plan. */
export interface Director {
  /** Does what is due at this share of the steps; nothing that takes long is waited for. */
  direct(share: number): Promise<void>
  /** Everything has been done and undone. Rejects where a peer did not start again. */
  finished(): Promise<boolean>
  timeline(): readonly TimelineEntry[]
}

/** Milliseconds between two looks whether a peer has left a checkpoint. */
const LOOK_EVERY_MS = 100

interface Cue {
  readonly at: number
  readonly action: () => Promise<void>
}

export interface DirectorInit {
  readonly peers: readonly TestnetPeer[]
  readonly disturbances: Disturbances
  readonly clock: Clock
}

export function createDirector({ peers, disturbances, clock }: DirectorInit): Director {
  const startedAt = clock.now()
  const timeline: TimelineEntry[] = []
  const running = new Set<Promise<void>>()
  let failure: { readonly error: unknown } | undefined
  let split = false
  const note = (kind: TimelineEntry['kind'], what: string) =>
    timeline.push({ kind, seconds: (clock.now() - startedAt) / 1000, what })
  const meetingPoint = () => peers[0]?.addresses().slice(0, 1) ?? []
  const chosen = (indices: readonly number[]) => peers.filter(({ index }) => indices.includes(index))

  async function start(peer: TestnetPeer): Promise<void> {
    await peer.start(meetingPoint())
    await peer.poll()
    note('started', `peer ${peer.index} started`)
    if (split) await divide(peers, true)
  }
  async function crash(peer: TestnetPeer, downSeconds: number): Promise<void> {
    // A kill is to show what a peer goes on with: on a slow machine one may still load its model while others train.
    while (peer.alive() && peer.status()?.checkpoint === undefined) await clock.sleep(LOOK_EVERY_MS)
    note('killed', `peer ${peer.index} killed with SIGKILL at step ${peer.lastStatus()?.steps.done}`)
    await peer.crash()
    await clock.sleep(1000 * downSeconds)
    await start(peer)
  }
  async function setSplit(now: boolean): Promise<void> {
    split = now
    await divide(peers, now)
    note(now ? 'split' : 'healed', now ? 'the network is split in two halves' : 'the halves may meet again')
  }
  /** In the background: a peer needs seconds to start, and the others are to be watched meanwhile. */
  const inBackground = (work: Promise<void>): void => {
    const settled: Promise<void> = work
      .catch((error: unknown) => {
        failure ??= { error }
      })
      .finally(() => running.delete(settled))
    running.add(settled)
  }
  const { late, kill, split: halves } = disturbances
  const cues: Cue[] = []
  const cue = (at: number, action: Cue['action']): void => void cues.push({ at, action })
  const each = (indices: readonly number[], work: (peer: TestnetPeer) => Promise<void>) => async () => {
    for (const peer of chosen(indices)) inBackground(work(peer))
  }
  if (late !== undefined) cue(late.at, each(late.peers, start))
  if (kill !== undefined)
    cue(
      kill.at,
      each(kill.peers, (peer) => crash(peer, kill.downSeconds))
    )
  if (halves !== undefined) {
    cue(halves.from, () => setSplit(true))
    cue(halves.to, () => setSplit(false))
  }
  cues.sort((a, b) => a.at - b.at)

  return {
    async direct(share) {
      while (cues[0] !== undefined && share >= cues[0].at) await cues.shift()?.action()
    },
    async finished() {
      if (failure !== undefined) throw failure.error
      return cues.length === 0 && running.size === 0
    },
    timeline: () => timeline
  }
}

/** Has every peer deny the other half, or nobody. */
async function divide(peers: readonly TestnetPeer[], split: boolean): Promise<void> {
  await Promise.all(
    peers.map((peer) => {
      const others = peers.filter(({ index }) => halfOf(index, peers.length) !== halfOf(peer.index, peers.length))
      const ids = others.map((other) => other.lastStatus()?.peerId).filter((peer) => peer !== undefined)
      return peer.deny(split ? ids : [])
    })
  )
}
