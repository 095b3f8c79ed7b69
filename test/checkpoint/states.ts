import { seededRng } from '../../src/base/rng.js'
import type { CheckpointIdentity, NodeState } from '../../src/checkpoint/state.js'

export const IDENTITY: CheckpointIdentity = { federationHash: 'f1'.repeat(32), schemaHash: '5c'.repeat(32) }

/** Every field of it follows from `step`, so that a mixture of two states is found out. */
export function stateAt(step: number, size = 7): NodeState {
  const rng = seededRng('state', step)
  const vector = () => Float32Array.from({ length: size }, () => rng.uniform() - 0.5)
  return {
    ...IDENTITY,
    step,
    exchanges: 3 * step,
    phase: step % 2 === 0 ? 'training' : 'settling',
    parameters: vector(),
    adam: { m: vector(), v: vector(), step },
    rng: { partner: seededRng('partner', step).state(), rounding: seededRng('rounding', step).state() },
    cursor: { epoch: step, position: 11 },
    journal: { open: [{ id: `x${step}`, peer: 'π', decided: null }] },
    inDoubt: { [`x${step}`]: vector(), another: vector() },
    bytesSent: 2 ** 40 + step,
    bytesReceived: 12,
    savedAtMs: 1_700_000_000_000.5
  }
}
