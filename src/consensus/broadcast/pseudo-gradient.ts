import type { Rng } from '../../base/rng.js'
import type { VectorCodec } from '../../codec/codec.js'
import { PeertuneError } from '../../base/errors.js'
import { subtract } from '../../tensor/linear.js'

/** What this peer has learned and not told yet. */
export interface PseudoGradient {
  /** What is told now, coded. */
  readonly payload: Uint8Array
  /** What the coder left out, float32[n]: part of what is told next. */
  readonly residual: Float32Array
}

/**
 * Where a peer trains on once it has told: at the replica that all share, as in SparseLoCo, or at the replica and what it
 * has left out itself, so that it learns what is still to be learned.
 */
export type ResumeAt = 'replica' | 'own'

/**
 * e <- decay * residual + (live - replica); what is told is q = Q(e), and e - q is kept: error feedback (Seide et al.
 * 2014; Karimireddy et al. 2019, https://arxiv.org/abs/1901.09847), with the decay of SparseLoCo, without which a sparse
 * coder keeps sending what has long been overtaken. Of a peer that trains on at its own, `live` has the residual in it
 * already, decayed. Throws `codec/*` where our own parameters have diverged.
 */
export function pseudoGradient({
  live,
  replica,
  residual,
  decay,
  resumeAt,
  codec,
  rng
}: {
  readonly live: Float32Array
  readonly replica: Float32Array
  readonly residual: Float32Array
  readonly decay: number
  readonly resumeAt: ResumeAt
  readonly codec: VectorCodec
  readonly rng: Rng
}): PseudoGradient {
  const whole = subtract(live, replica)
  if (resumeAt === 'replica') for (let i = 0; i < whole.length; i++) whole[i] = whole[i]! + decay * residual[i]!
  const payload = codec.encode(whole, rng)
  const told = codec.decode(payload, whole.length)
  if (!told.ok)
    throw new PeertuneError('consensus/own-side-unreadable', 'our own pseudo-gradient does not survive coding', {
      facts: { codec: codec.name }
    })
  return { payload, residual: subtract(whole, told.value) }
}
