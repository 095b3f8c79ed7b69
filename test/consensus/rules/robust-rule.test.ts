import { describe, expect, it } from 'vitest'
import type { RobustSpec } from '../../../src/base/mixing-rules.js'
import { euclidean } from '../../../src/consensus/rules/distance.js'
import { noteLoss, noteState, type RecentStates, robustTarget } from '../../../src/consensus/rules/robust-rule.js'
import { distance2, weightedMean } from '../../../src/tensor/linear.js'
import { gaussian } from '../../codec/codec-cases.js'
import { machineNetwork } from '../exchange/machines.js'

const SIZE = 24
const honest = (i: number) => gaussian(SIZE, 'honest', i)
const far = new Float32Array(SIZE).fill(1000)

const meeting = (robust: RobustSpec) => {
  const starts = [...[0, 1, 2, 3, 4].map(honest), far]
  const network = machineNetwork({
    weights: starts.map(() => 1),
    reference: new Float32Array(SIZE),
    starts,
    codec: 'float32',
    more: { robust, localSteps: 10 }
  })
  return {
    network,
    meet(a: number, b: number) {
      network.initiate(a, b)
      network.drain()
    }
  }
}

describe.each(['trimmed-mean', 'nnm'] as const)('%s in the exchange', (rule) => {
  it('takes a liar among several for what it is, and remembers no more partners than agreed', () => {
    const { network, meet } = meeting({ rule, window: 4, liars: 1 })
    for (const partner of [1, 2, 3, 4, 5, 1, 5, 2, 5]) meet(0, partner)
    expect(network.states[0]!.recent.size).toBe(4)
    const mean = Float32Array.from(weightedMean([0, 1, 2, 3, 4].map(honest), [1, 1, 1, 1, 1]))
    expect(distance2(network.parameters[0]!, mean)).toBeLessThan(distance2(honest(0), mean) + 1)
    // The liar has moved itself only: whoever it meets decides alone, so the mean of all is not kept.
    expect(network.states[0]!.journal.inDoubt).toHaveLength(0)
  })

  it('is the pair average while there are only two, up to what trimming needs', () => {
    const { network, meet } = meeting({ rule, window: 4, liars: 2 })
    meet(0, 1)
    const middle = honest(0).map((value, i) => (value + honest(1)[i]!) / 2)
    expect(distance2(network.parameters[0]!, middle)).toBeLessThan(1e-5)
  })
})

describe('BALANCE in the exchange', () => {
  it('goes all of the way or none, both sides alike', () => {
    const { network, meet } = meeting({ rule: 'balance', strictness: 2, decay: 1 })
    const before = network.parameters.map((vector) => vector.slice())
    meet(0, 5)
    expect(network.parameters[0]).toEqual(before[0])
    expect(network.parameters[5]).toEqual(before[5])
    meet(0, 1)
    expect(distance2(network.parameters[0]!, network.parameters[1]!)).toBeLessThan(1e-5)
  })
})

describe('UBAR', () => {
  const config = { robust: { rule: 'ubar', window: 4, share: 1 }, localSteps: 10, measure: euclidean } as const
  const scene = (recent: RecentStates, step = 30) => ({
    peer: 'now',
    own: honest(0),
    partner: far,
    apart: { distance: 1 },
    recent,
    step,
    losses: { own: 2, start: 3 }
  })
  const state = (i: number, atStep = 20) => ({ vector: honest(i), atStep })

  it('goes half of the way to those that lose no more than we do, and nowhere before losses are measured', () => {
    let recent = noteState(config, noteState(config, new Map(), ['a', state(1)]), ['b', state(2)])
    expect(robustTarget(config, scene(recent))).toEqual(honest(0))
    recent = noteLoss(recent, 'a', { vector: recent.get('a')!.vector, loss: 1.5 })
    recent = noteLoss(recent, 'b', { vector: recent.get('b')!.vector, loss: 2.5 })
    const target = robustTarget(config, scene(recent))!
    target.forEach((value, i) => {
      expect(value).toBeCloseTo((honest(0)[i]! + honest(1)[i]!) / 2, 5)
    })
    // A loss of a vector that has been replaced meanwhile is of no use, and old states stand for nobody.
    expect(noteLoss(recent, 'a', { vector: honest(7), loss: 0 })).toBe(recent)
    expect(robustTarget(config, scene(recent, 1000))).toEqual(honest(0))
  })

  it('of those that lose more follows the nearest, unless it is worse than no training at all', () => {
    const losing = (loss: number): RecentStates => new Map([['a', { ...state(1), loss }]])
    const halfway = (i: number) => (honest(0)[i]! + honest(1)[i]!) / 2
    robustTarget(config, scene(losing(2.9)))!.forEach((value, i) => {
      expect(value).toBeCloseTo(halfway(i), 5)
    })
    expect(robustTarget(config, scene(losing(3.1)))).toEqual(honest(0))
    expect(robustTarget(config, scene(losing(Number.NaN)))).toEqual(honest(0))
  })

  it('counts the partner at hand as what it was when it was measured', () => {
    const recent: RecentStates = new Map([['now', { ...state(3), loss: 1 }]])
    robustTarget(config, scene(recent))!.forEach((value, i) => {
      expect(value).toBeCloseTo((honest(0)[i]! + honest(3)[i]!) / 2, 5)
    })
  })
})
