import type { Status } from '../../src/status/snapshot.js'

const T0 = 1_760_000_000_000

/** A node in the middle of its work, with no number that equals another. */
export const status = (changes: Partial<Status> = {}): Status => ({
  version: '0.1.0',
  peerId: '12D3KooWAliceAliceAliceAliceAliceAliceAliceAlice1111',
  label: 'alice',
  addresses: ['/ip4/127.0.0.1/tcp/4001/p2p/12D3KooWAlice'],
  federation: { name: 'letters', hash: 'ab'.repeat(32) },
  model: { path: '/models/glyphs.onnx', sha256: 'cd'.repeat(32), parameters: 12_345, schemaHash: 'cd' },
  task: 'image-classification',
  device: { used: 'cpu', reason: 'no CUDA library was found' },
  arithmetic: { used: 'int8', float32Cosine: 0.9975 },
  phase: 'training',
  steps: { done: 120, total: 400, perSecond: 7.5 },
  loss: { last: 1.9, smoothed: 2.125 },
  evaluation: { metric: 'accuracy', value: 0.375, atStep: 100 },
  peers: [
    {
      peerId: '12D3KooWBobBobBobBobBobBobBobBobBobBobBobBob22222222',
      label: 'bob',
      connected: true,
      sameFederation: true,
      lastExchangeAtMs: T0,
      stalenessSteps: 4,
      stalenessMs: 2500,
      exchanges: 11,
      bytesOut: 51_000,
      bytesIn: 52_000,
      refusals: 3
    },
    { peerId: '12D3KooWCarol33333333', connected: false, exchanges: 0, bytesOut: 17, bytesIn: 19, refusals: 0 }
  ],
  bytes: { sent: 53_000, received: 54_000, float32Equivalent: 212_000, savedRatio: 4 },
  exchanges: { completed: 12, failed: 2, failures: { 'exchange/broken-link': 2 }, inDoubt: 1 },
  refusals: { 'codec/truncated': 5, 'consensus/stale': 6 },
  bootstrap: [{ address: '/ip4/192.0.2.1/tcp/1', state: 'failed', attempts: 9, sentence: 'nothing listens there' }],
  trainer: { pid: 4242, restarts: 1 },
  lastGoodRound: 12,
  checkpoint: { step: 110, atMs: T0 },
  startedAtMs: T0 - 60_000,
  uptimeSeconds: 61.5,
  ...changes
})
