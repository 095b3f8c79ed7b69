import { PeertuneError } from '../../base/errors.js'

export interface AdamWOptions {
  /** Already scheduled: see schedule.ts. */
  readonly learningRate: number
  readonly beta1?: number
  readonly beta2?: number
  readonly epsilon?: number
  readonly weightDecay?: number
}

/** float32[size] each; `step` counts the updates made. */
export interface AdamWState {
  /** Running mean of the gradients. */
  readonly m: Float32Array
  /** Running mean of their squares. */
  readonly v: Float32Array
  readonly step: number
}

export const createAdamW = (size: number): AdamWState => ({
  m: new Float32Array(size),
  v: new Float32Array(size),
  step: 0
})

/**
 * One step of AdamW (Loshchilov & Hutter 2019, algorithm 2), in the order of torch.optim.AdamW: decay decoupled from
 * the gradient and scaled by the learning rate, both moments bias-corrected, epsilon outside the square root.
 *
 * Read it as (parameters, gradients, state) -> (parameters', state'). No garbage is made: the results lie in the
 * buffers of `parameters`, `state.m` and `state.v`, and the state handed in must not be used again.
 * Sums are taken in float64 and rounded once to float32, so the result is at least as close to exact as torch's.
 *
 * All four vectors have the same length; throws `train/wrong-length` before anything changes.
 */
export function adamw(
  parameters: Float32Array,
  gradients: Float32Array,
  state: AdamWState,
  { learningRate, beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8, weightDecay = 0.01 }: AdamWOptions
): AdamWState {
  checkLengths(parameters, gradients, state)
  const { m, v } = state
  const step = state.step + 1
  const keep = 1 - learningRate * weightDecay
  const stepSize = learningRate / (1 - beta1 ** step)
  const rootCorrection = Math.sqrt(1 - beta2 ** step)
  for (let i = 0; i < parameters.length; i++) {
    const g = gradients[i]!
    const mean = beta1 * m[i]! + (1 - beta1) * g
    const square = beta2 * v[i]! + (1 - beta2) * g * g
    m[i] = mean
    v[i] = square
    parameters[i] = parameters[i]! * keep - (stepSize * mean) / (Math.sqrt(square) / rootCorrection + epsilon)
  }
  return { m, v, step }
}

function checkLengths(parameters: Float32Array, gradients: Float32Array, { m, v }: AdamWState): void {
  const expected = parameters.length
  if (gradients.length === expected && m.length === expected && v.length === expected) return
  throw new PeertuneError('train/wrong-length', 'parameters, gradients and moments differ in length', {
    facts: { parameters: expected, gradients: gradients.length, m: m.length, v: v.length }
  })
}
