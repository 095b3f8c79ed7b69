import { describe, expect, it } from 'vitest'
import { seededRng } from '../../../src/base/rng.js'
import { adamw, createAdamW } from '../../../src/train/optimiser/adamw.js'

interface Settings {
  lr: number
  beta1: number
  beta2: number
  eps: number
  decay: number
}

/** Algorithm 2 of Loshchilov & Hutter as written there, in float64, one scalar at a time. */
function reference(start: number, gradients: readonly number[], { lr, beta1, beta2, eps, decay }: Settings): number[] {
  let m = 0
  let v = 0
  let theta = start
  return gradients.map((g, k) => {
    const t = k + 1
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g ** 2
    const mHat = m / (1 - beta1 ** t)
    const vHat = v / (1 - beta2 ** t)
    theta = theta - lr * (mHat / (Math.sqrt(vHat) + eps)) - lr * decay * theta
    return theta
  })
}

describe('adamw', () => {
  it('makes the first step of torch.optim.AdamW: decay, then the learning rate against the sign', () => {
    const parameters = Float32Array.of(2, -0.5)
    const state = adamw(parameters, Float32Array.of(0.25, -3), createAdamW(2), { learningRate: 0.1 })
    // 2 * (1 - 0.1 * 0.01) - 0.1 and -0.5 * (1 - 0.1 * 0.01) + 0.1
    expect(parameters[0]).toBeCloseTo(1.898, 6)
    expect(parameters[1]).toBeCloseTo(-0.3995, 6)
    expect(state.step).toBe(1)
    expect(state.m[0]).toBeCloseTo(0.025, 8)
    expect(state.v[1]).toBeCloseTo(0.009, 8)
  })

  it('keeps epsilon outside the root and unscaled by the bias correction', () => {
    // With g = 1 the corrected moments are 1 and 1: 3 - 0.5 / (1 + 0.25) whatever the betas.
    const parameters = Float32Array.of(3)
    const options = { learningRate: 0.5, epsilon: 0.25, weightDecay: 0 }
    const state = adamw(parameters, Float32Array.of(1), createAdamW(1), options)
    expect(parameters[0]).toBeCloseTo(2.6, 6)
    adamw(parameters, Float32Array.of(1), state, options)
    expect(parameters[0]).toBeCloseTo(2.2, 6)
  })

  it.each<Settings>([
    { lr: 0.003, beta1: 0.9, beta2: 0.999, eps: 1e-8, decay: 0.01 },
    { lr: 0.2, beta1: 0.8, beta2: 0.95, eps: 1e-3, decay: 0.5 }
  ])('follows the paper over 200 steps with lr $lr', (settings) => {
    const rng = seededRng('adamw', settings.lr)
    const starts = Float32Array.of(1.5, -0.25, 30)
    const gradients = Array.from({ length: 200 }, () => Float32Array.from(starts, () => 6 * rng.uniform() - 2))
    const parameters = starts.slice()
    let state = createAdamW(3)
    for (const g of gradients)
      state = adamw(parameters, g, state, {
        learningRate: settings.lr,
        beta1: settings.beta1,
        beta2: settings.beta2,
        epsilon: settings.eps,
        weightDecay: settings.decay
      })
    starts.forEach((start, i) => {
      const expected = reference(
        start,
        gradients.map((g) => g[i]!),
        settings
      ).at(-1)!
      expect(Math.abs(parameters[i]! - expected)).toBeLessThan(2e-6 * Math.max(1, Math.abs(start)))
    })
    expect(state.step).toBe(200)
  })

  it('follows a learning rate that changes from step to step', () => {
    const rates = [0.5, 0.3, 0.05]
    const parameters = Float32Array.of(4)
    let state = createAdamW(1)
    for (const learningRate of rates)
      state = adamw(parameters, Float32Array.of(-0.7), state, { learningRate, weightDecay: 0 })
    // A constant gradient has corrected moments g and g^2: every step is the learning rate itself.
    expect(parameters[0]).toBeCloseTo(4.85, 6)
  })

  it('works in the buffers it is given', () => {
    const first = createAdamW(2)
    const second = adamw(new Float32Array(2), Float32Array.of(1, 2), first, { learningRate: 0.1 })
    expect(second.m).toBe(first.m)
    expect(second.v).toBe(first.v)
  })

  it('refuses gradients of another length and changes nothing', () => {
    const parameters = Float32Array.of(1, 2)
    expect(() => adamw(parameters, Float32Array.of(1), createAdamW(2), { learningRate: 0.1 })).toThrow(
      expect.objectContaining({ code: 'train/wrong-length', facts: { parameters: 2, gradients: 1, m: 2, v: 2 } })
    )
    expect([...parameters]).toEqual([1, 2])
  })
})
