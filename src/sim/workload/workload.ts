import { PeertuneError } from '../../base/errors.js'
import { seededRng } from '../../base/rng.js'
import { attackOf } from '../attack/attackers.js'
import { drawn, normal } from '../world/draws.js'
import { logistic } from './logistic.js'
import type { Scenario } from '../world/scenario.js'
import type { KnownProblem, Workload, WorkloadParts } from '../world/workload-types.js'

/** Throws `config/bad-scenario` for a workload that is no problem of its own. */
export function createProblem(scenario: Scenario): KnownProblem {
  const { seed, peers, workload } = scenario
  const rng = seededRng(seed, 'workload')
  const weights = Array.from({ length: peers }, () => Math.round(drawn(rng, workload.samples)))
  const reference = Float32Array.from({ length: workload.size }, () => rng.uniform() - 0.5)
  const mislabelled = (peer: number) => attackOf(scenario, peer) === 'label-flip'
  const parts = { scenario, weights, reference, rng, mislabelled }
  switch (workload.kind) {
    case 'none':
      return consensusOnly(parts)
    case 'quadratic':
      return quadratic(parts)
    case 'logistic':
      return logistic(parts)
    case 'trained':
      throw new PeertuneError('config/bad-scenario', 'workload.kind: trained needs a section training')
  }
}

/** Steps of a known problem take no time of their own: they are made when they end. */
export function knownWorkload(problem: KnownProblem): Workload {
  const { reference, weights, trains, begin, step, loss, bestLoss } = problem
  return {
    reference,
    weights,
    trains,
    begin,
    learner: (peer, parameters) => ({
      begin: () => (local) => step(peer, parameters, local),
      state: () => undefined
    }),
    measure: ({ mean }) => ({ excessLoss: loss(mean) - bestLoss })
  }
}

/** Peers start anywhere around x0 and want nothing; their best point is their mean. */
function consensusOnly({ scenario, weights, reference }: WorkloadParts): KnownProblem {
  return {
    reference,
    weights,
    trains: false,
    begin(peer, parameters) {
      const rng = seededRng(scenario.seed, 'begin', peer)
      for (let i = 0; i < parameters.length; i++) parameters[i] = reference[i]! + rng.uniform() - 0.5
    },
    step: () => undefined,
    loss: () => 0,
    bestLoss: 0,
    optimum: Float64Array.from(reference)
  }
}

/** f_i(x) = 1/2 sum_k a_ik (x_k - c_ik)^2: curvatures from 1/2 to 3/2, centres as far apart as heterogeneity says. */
function quadratic({ scenario, weights, reference, rng, mislabelled }: WorkloadParts): KnownProblem {
  const { size, heterogeneity, noise } = scenario.workload
  const centre = Float64Array.from(reference, (value) => value + normal(rng))
  const own = weights.map(() => ({
    curvature: Float64Array.from({ length: size }, () => 1 + heterogeneity * (rng.uniform() - 0.5)),
    centre: centre.map((value) => value + heterogeneity * normal(rng))
  }))
  // Where a wrong target takes a peer: as far from the start, the other way.
  const aims = own.map(({ centre: c }, peer) =>
    mislabelled(peer) ? c.map((value, k) => 2 * reference[k]! - value) : c
  )
  const total = weights.reduce((sum, weight) => sum + weight, 0)
  const optimum = centre.map((_, k) => {
    const sums = own.reduce(
      ([up, down], { curvature: a, centre: c }, i): [number, number] => [
        up + weights[i]! * a[k]! * c[k]!,
        down + weights[i]! * a[k]!
      ],
      [0, 0] as [number, number]
    )
    return sums[0] / sums[1]
  })
  const loss = (x: ArrayLike<number>): number =>
    own.reduce((sum, { curvature: a, centre: c }, i) => {
      let f = 0
      for (let k = 0; k < size; k++) f += 0.5 * a[k]! * (x[k]! - c[k]!) ** 2
      return sum + (weights[i]! / total) * f
    }, 0)
  return {
    reference,
    weights,
    trains: true,
    begin: (_, parameters) => parameters.set(reference),
    step(peer, x, { learningRate, rng: noiseRng }) {
      const { curvature: a } = own[peer]!
      const c = aims[peer]!
      for (let k = 0; k < size; k++)
        x[k] = x[k]! - learningRate * (a[k]! * (x[k]! - c[k]!) + (noise === 0 ? 0 : noise * normal(noiseRng)))
    },
    loss,
    optimum,
    bestLoss: loss(optimum)
  }
}
