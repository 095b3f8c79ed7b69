import { describe, expect, it } from 'vitest'
import { seededRng } from '../../../src/base/rng.js'
import { codecByName } from '../../../src/codec/registry.js'
import { type Broadcaster, createBroadcaster } from '../../../src/consensus/broadcast/broadcaster.js'
import type { ResumeAt } from '../../../src/consensus/broadcast/pseudo-gradient.js'
import { weightedMean } from '../../../src/tensor/linear.js'
import { configOf, fakeSign, reference, SIZE, synchronise } from './broadcasters.js'

const NAMES = ['anna', 'bert', 'cleo']
const SAMPLES = [70, 200, 30]
const TOTAL = 300

interface Peer extends Broadcaster {
  readonly live: Float32Array
}

function peerOf(self: string, resumeAt: ResumeAt): Peer {
  const live = reference.slice()
  const rule = { codec: codecByName('topk-int4', { fraction: 0.1 }), size: SIZE, outerStep: 1, maxStep: 1 }
  const config = configOf(self, { rule })
  const parts = { config, reference, live, decay: 1, resumeAt, sign: fakeSign, rng: seededRng('own', self) }
  return { ...createBroadcaster(parts), live }
}

const meanOf = (peers: readonly Peer[]): Float64Array =>
  weightedMean(
    peers.map(({ live }) => live),
    SAMPLES
  )

const apart = (a: ArrayLike<number>, b: ArrayLike<number>): number =>
  Math.max(...Array.from(a, (value, i) => Math.abs(value - b[i]!)))

function tell(peers: readonly Peer[]): void {
  for (const [peer, one] of peers.entries()) one.publish({ samples: SAMPLES[peer]!, totalSamples: TOTAL })
  for (let i = 0; i < peers.length; i++)
    for (let j = i + 1; j < peers.length; j++) synchronise(peers[i]!, peers[j]!, [NAMES[i]!, NAMES[j]!])
}

/** Everybody learns something of its own, tells of it, and hears of all. Returns the means before and after the telling. */
function round(peers: readonly Peer[], index: number): readonly [Float64Array, Float64Array] {
  peers.forEach(({ live }, peer) => {
    const rng = seededRng('training', index, peer)
    for (let i = 0; i < SIZE; i++) live[i] = live[i]! + 0.2 * (rng.uniform() - 0.5)
  })
  const before = meanOf(peers)
  tell(peers)
  return [before, meanOf(peers)]
}

describe('what an update leaves out', () => {
  it('stays in the live parameters, so that telling moves no mean, and the replicas are one', () => {
    const peers = NAMES.map((name) => peerOf(name, 'own'))
    for (let index = 0; index < 12; index++) {
      const [before, after] = round(peers, index)
      // A tenth of the elements was told; roundings to the grid and to float32 are what is left.
      expect(apart(before, after)).toBeLessThan(1e-6)
      expect(new Set(peers.map((one) => one.hash())).size).toBe(1)
      expect(apart(peers[0]!.live, peers[0]!.replica)).toBeGreaterThan(0.01)
    }
  })

  it('waits apart from them where training goes on at the replica', () => {
    const peers = NAMES.map((name) => peerOf(name, 'replica'))
    const [before, after] = round(peers, 0)
    expect(apart(before, after)).toBeGreaterThan(0.01)
    for (const { live, replica } of peers) expect([...live]).toEqual([...replica])
  })

  it('is told in the end, once nobody learns any more', () => {
    const peers = NAMES.map((name) => peerOf(name, 'own'))
    round(peers, 0)
    const before = meanOf(peers)
    for (let index = 0; index < 30; index++) tell(peers)
    expect(apart(before, peers[0]!.replica)).toBeLessThan(1e-3)
  })
})
