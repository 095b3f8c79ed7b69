import type { Rng } from '../../src/base/rng.js'
import { seededRng } from '../../src/base/rng.js'
import type { Training } from '../../src/sim/workload/trained.js'
import { createLocalOptimiser } from '../../src/train/optimiser/local-optimiser.js'

export interface LockstepOptions {
  readonly seed: string
  readonly steps: number
  /** Local steps between two rounds of mixing. */
  readonly localSteps: number
  /** Rounds after the last local step. */
  readonly settleRounds: number
  /** Which parameters a peer trains, 1 or 0 each; all without it. */
  readonly masks?: readonly (Float32Array | undefined)[]
  /** Changes the peers' vectors in place. */
  readonly mix: (peers: readonly Float32Array[], round: Round) => void
}

export interface Round {
  readonly index: number
  readonly rng: Rng
  /** No local steps are made any more. */
  readonly settling: boolean
}

/**
 * Peers that train side by side and mix in rounds, all at the same time: for rules that no daemon has, or not yet. What
 * the simulator does is closer to the daemon.
 */
export async function lockstep(training: Training, options: LockstepOptions): Promise<Float32Array[]> {
  const { seed, steps, localSteps, settleRounds, masks, mix } = options
  const { datasets, batchSize, trainer } = training
  const peers = datasets.map(() => trainer.description.initial.slice())
  const optimisers = datasets.map((dataset, peer) =>
    createLocalOptimiser({
      trainer: masked(trainer, masks?.[peer]),
      batches: dataset.batches(batchSize),
      parameters: peers[peer]!,
      options: { ...training.optimiser, schedule: { kind: 'cosine', totalSteps: steps } },
      turns: training.turns
    })
  )
  const rng = seededRng(seed, 'lockstep')
  const rounds = Math.floor(steps / localSteps)
  for (let index = 0; index < rounds + settleRounds; index++) {
    const settling = index >= rounds
    if (!settling) await Promise.all(optimisers.map((optimiser) => repeat(localSteps, () => optimiser.step())))
    mix(peers, { index, rng, settling })
  }
  return peers
}

async function repeat(times: number, act: () => Promise<unknown>): Promise<void> {
  for (let i = 0; i < times; i++) await act()
}

function masked(trainer: Training['trainer'], mask: Float32Array | undefined): Pick<Training['trainer'], 'step'> {
  if (mask === undefined) return trainer
  return {
    async step(parameters, batch) {
      const { loss, gradients } = await trainer.step(parameters, batch)
      for (let i = 0; i < mask.length; i++) gradients[i] = gradients[i]! * mask[i]!
      return { loss, gradients }
    }
  }
}

/** A random perfect matching: who mixes with whom in one round. */
export function pairsOf(count: number, rng: Rng): [number, number][] {
  const order = rng.shuffle(Array.from({ length: count }, (_, i) => i))
  return Array.from({ length: Math.floor(count / 2) }, (_, i) => [order[2 * i]!, order[2 * i + 1]!])
}
