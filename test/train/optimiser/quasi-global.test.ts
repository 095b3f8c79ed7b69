import { describe, expect, it } from 'vitest'
import { seededRng } from '../../../src/base/rng.js'
import { adamw, createAdamW } from '../../../src/train/optimiser/adamw.js'
import { beginQuasiGlobal, mixQuasiGlobal, quasiGlobalMomentum } from '../../../src/train/optimiser/quasi-global.js'

const SIZE = 12
const vector = (seed: string, scale = 1) => {
  const rng = seededRng(seed)
  return Float32Array.from({ length: SIZE }, () => scale * (rng.uniform() - 0.5))
}

describe('quasi-global momentum', () => {
  it('is the gradient itself where nobody mixes and the gradient does not change', () => {
    const [x, g] = [Float64Array.from(vector('x')), Float64Array.from(vector('g'))]
    let momentum: Float64Array = new Float64Array(SIZE)
    let at = x
    for (let t = 0; t < 2000; t++) {
      const after = at.map((value, i) => value - 0.1 * (0.9 * momentum[i]! + g[i]!))
      momentum = quasiGlobalMomentum(momentum, { before: at, after, rate: 0.1 }, { decay: 0.9 })
      at = after
    }
    // m = mu m + (1 - mu)(mu m + g) has the fixed point m = g / (1 - mu), heavy ball's own.
    momentum.forEach((value, i) => {
      expect(value).toBeCloseTo(10 * g[i]!, 1)
    })
  })

  it('leaves AdamW alone where nobody mixes: the way is the gradient times its denominator', () => {
    const options = { learningRate: 0.01, weightDecay: 0, beta1: 0.9, beta2: 0.999, epsilon: 1e-8 }
    const parameters = vector('p')
    const gradient = vector('gradient')
    let adam = createAdamW(SIZE)
    let state = beginQuasiGlobal(parameters, adam)
    for (let t = 0; t < 5; t++) adam = adamw(parameters, gradient, adam, options)
    const moment = adam.m.slice()
    state = mixQuasiGlobal(parameters, adam, { ...state, rate: 5 * options.learningRate }, { decay: 0, ...options })
    adam.m.forEach((value, i) => {
      expect(value).toBeCloseTo(moment[i]!, 4)
    })
    expect(state.rate).toBe(0)
  })

  it('goes along with what an exchange adds, and not with a mixing that no step came before', () => {
    const options = { learningRate: 0.01, weightDecay: 0, decay: 0.5 }
    const parameters = vector('p')
    let adam = createAdamW(SIZE)
    const start = beginQuasiGlobal(parameters, adam)
    adam = adamw(parameters, vector('gradient'), adam, options)
    const alone = mixQuasiGlobal(parameters.slice(), { ...adam, m: adam.m.slice() }, { ...start, rate: 0.01 }, options)
    parameters.forEach((_, i) => {
      parameters[i]! += 0.002
    })
    const together = mixQuasiGlobal(parameters, adam, { ...start, rate: 0.01 }, options)
    together.momentum.forEach((value, i) => {
      // Half of the way added, per unit of rate, times sqrt(v): |gradient| after one step.
      const expected = alone.momentum[i]! - 0.5 * (0.002 / 0.01) * Math.abs(vector('gradient')[i]!)
      expect(value).toBeCloseTo(expected, 4)
    })
    const before = adam.m.slice()
    const idle = mixQuasiGlobal(vector('elsewhere'), adam, together, options)
    expect(adam.m).toEqual(before)
    expect(idle.anchor).toEqual(vector('elsewhere'))
  })
})
