import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { seededRng } from '../../../src/base/rng.js'
import {
  AWAY_AT_LEAST_MS,
  AWAY_MS,
  CATCH_UP_PAUSE_MS,
  type CatchUpScene,
  catchUpReason,
  caughtUp,
  isBehind,
  robustMiddle
} from '../../../src/consensus/catch-up/catch-up.js'
import { euclidean, productDistance } from '../../../src/consensus/rules/distance.js'
import { isOddOneOut, SUGGESTED_CLIP } from '../../../src/consensus/rules/radius.js'
import { distance2, weightedMean } from '../../../src/tensor/linear.js'
import { createSchema } from '../../../src/tensor/schema.js'
import { gaussian } from '../../codec/codec-cases.js'
import { machineNetwork } from '../exchange/machines.js'

const scene: CatchUpScene = {
  step: 400,
  lastExchangeStep: 395,
  localSteps: 10,
  awayMs: 3_000,
  sinceCatchUpMs: Number.POSITIVE_INFINITY,
  othersKnown: true,
  oddOneOut: false
}

describe('the reason to catch up', () => {
  it.each([
    ['nothing: in the middle of it', {}, undefined],
    ['fifty steps alone, for a minute', { lastExchangeStep: 350, awayMs: AWAY_AT_LEAST_MS }, 'away'],
    ['nothing: fifty quick steps', { lastExchangeStep: 350 }, undefined],
    ['an hour away', { awayMs: 6 * AWAY_MS }, 'away'],
    ['an hour away, and nobody there', { awayMs: 6 * AWAY_MS, othersKnown: false }, undefined],
    ['held back by most', { oddOneOut: true }, 'odd-one-out'],
    ['held back by most, and just caught up', { oddOneOut: true, sinceCatchUpMs: CATCH_UP_PAUSE_MS - 1 }, undefined]
  ] as const)('%s', (_, change, reason) => {
    expect(catchUpReason({ ...scene, ...change })).toBe(reason)
  })

  it('of a newcomer is that half of the others are two rounds ahead, and not one that shouts', () => {
    const here = { step: 10, localSteps: 10 }
    expect(isBehind(here, [30, 35, 500])).toBe(true)
    expect(isBehind(here, [12, 25, 500])).toBe(false)
    expect(isBehind(here, [])).toBe(false)
  })
})

const SIZE = 40
const near = (i: number) => Float32Array.from(gaussian(SIZE, 'near', i), (value) => 5 + 0.1 * value)

describe('the middle of several states', () => {
  it('stays within the honest whatever a minority sends', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 2 }),
        fc.double({ min: -1e6, max: 1e6, noNaN: true }),
        fc.string(),
        (liars, lie, seed) => {
          const honest = Array.from({ length: 5 - liars }, (_, i) => near(i))
          const lies = Array.from({ length: liars }, (_, i) => near(i).map((value) => value + lie * (i + 1)))
          const middle = robustMiddle(seededRng(seed).shuffle([...honest, ...lies]), euclidean)
          const reach = Math.max(...honest.flatMap((one) => honest.map((other) => distance2(one, other))))
          expect(Math.min(...honest.map((one) => distance2(one, middle)))).toBeLessThanOrEqual(3 * reach)
        }
      )
    )
  })

  it('is the mean of one or two, where there is no majority', () => {
    expect(robustMiddle([near(1)], euclidean)).toEqual(near(1))
    const two = Float32Array.from(weightedMean([near(1), near(2)], [1, 1]))
    expect(robustMiddle([near(1), near(2)], euclidean)).toEqual(two)
  })

  it('leaves out factors within everybody’s range whose product is far out of it', () => {
    const schema = createSchema([
      { name: 'x.lora_A.weight', shape: [2, 6] },
      { name: 'x.lora_B.weight', shape: [5, 2] }
    ])
    // Both slots of A alike, those of B opposite: the products of the honest are hardly anything.
    const factors = (sign: number, i: number): Float32Array => {
      const [row, column] = [gaussian(6, 'row'), gaussian(5, 'column')]
      const b = [...column].flatMap((value) => [value, sign * value])
      return Float32Array.from([...row, ...row, ...b], (value, k) => value + 0.05 * gaussian(22, 'noise', i)[k]!)
    }
    const honest = [0, 1, 2].map((i) => factors(-1, i))
    const lie = factors(1, 3)
    const lengths = [...honest, lie].map((one) => [Math.hypot(...one.subarray(0, 12)), Math.hypot(...one.subarray(12))])
    for (const [a, b] of lengths) {
      expect(a! / lengths[0]![0]!).toBeCloseTo(1, 1)
      expect(b! / lengths[0]![1]!).toBeCloseTo(1, 1)
    }
    const measure = productDistance(schema, () => 1)
    const products = honest.map((one) => measure(one, lie).distance)
    const among = honest.flatMap((one, i) => honest.slice(i + 1).map((other) => measure(one, other).distance))
    expect(Math.min(...products)).toBeGreaterThan(Math.max(...among))
    const middle = robustMiddle([...honest, lie], measure)
    const expected = weightedMean(honest, [1, 1, 1])
    expect(Math.max(...middle.map((value, i) => Math.abs(value - expected[i]!)))).toBeLessThan(1e-6)
  })
})

describe('catching up', () => {
  const states = [0, 1, 2, 3].map(near)

  it('takes a newcomer to the middle, and leaves one that comes back as much of its own as lies within reach', () => {
    const start = new Float32Array(SIZE)
    const newcomer = caughtUp('newcomer', { own: start, states }, euclidean)
    expect(newcomer.target).toEqual(robustMiddle(states, euclidean))
    expect(newcomer.kept).toBe(0)
    const back = caughtUp('away', { own: start, states }, euclidean)
    const left = distance2(back.target, newcomer.target)
    const usual = states.map((state) => distance2(state, newcomer.target)).toSorted((a, b) => a - b)[1]!
    expect(left).toBeCloseTo(usual, 4)
    expect(left / back.distance).toBeCloseTo(back.kept, 6)
  })

  it('changes nothing for one that never was far', () => {
    const own = robustMiddle(states, euclidean)
    const { target, kept } = caughtUp('away', { own, states }, euclidean)
    expect(kept).toBe(1)
    expect(distance2(target, own)).toBeLessThan(1e-6)
  })
})

const origin = new Float32Array(SIZE)
const at = (length: number, ...seed: (string | number)[]) => {
  const direction = gaussian(SIZE, ...seed)
  const scale = length / Math.hypot(...direction)
  return direction.map((value) => scale * value)
}
const clipping = (starts: readonly Float32Array[]) =>
  machineNetwork({
    weights: starts.map(() => 1),
    reference: origin,
    starts,
    codec: 'float32',
    clip: SUGGESTED_CLIP,
    more: { localSteps: 10 }
  })

const spread = (vectors: readonly Float32Array[]): number => {
  const mean = Float32Array.from(
    weightedMean(
      vectors,
      vectors.map(() => 1)
    )
  )
  return Math.hypot(...vectors.map((vector) => distance2(vector, mean)))
}

/** Everybody meets `times` partners at random; nobody trains. */
function gather(network: ReturnType<typeof clipping>, times: number, seed: string): void {
  const rng = seededRng(seed)
  for (let round = 0; round < times; round++) {
    const order = rng.shuffle(network.parameters.map((_, i) => i))
    for (let k = 0; k + 1 < order.length; k += 2) {
      network.initiate(order[k]!, order[k + 1]!)
      network.drain()
    }
  }
}

describe('honest peers that clip', () => {
  it('come together after all of them trained long apart', () => {
    const network = clipping(Array.from({ length: 8 }, (_, i) => at(10, 'apart', i)))
    const before = spread(network.parameters)
    gather(network, 24, 'apart')
    expect(spread(network.parameters)).toBeLessThan(before / 20)
  })

  it('come together again after a pause of all that made everybody ten times as far as before', () => {
    const common = at(30, 'common')
    const network = clipping(Array.from({ length: 8 }, (_, i) => at(1, 'close', i).map((v, k) => v + common[k]!)))
    gather(network, 8, 'before')
    network.parameters.forEach((parameters, i) => {
      at(10, 'pause', i).forEach((value, k) => {
        parameters[k]! += value
      })
      network.places[i]! = { step: 100 }
    })
    const before = spread(network.parameters)
    gather(network, 24, 'after')
    expect(spread(network.parameters)).toBeLessThan(before / 20)
  })

  it('come together again after a split into two halves', () => {
    const sides = [at(20, 'left'), at(20, 'right')]
    const network = clipping(Array.from({ length: 8 }, (_, i) => at(1, 'half', i).map((v, k) => v + sides[i % 2]![k]!)))
    const rng = seededRng('halves')
    for (let round = 0; round < 8; round++)
      for (const half of [0, 1]) {
        const [a, b, c, d] = rng.shuffle([0, 2, 4, 6]).map((i) => i + half) as [number, number, number, number]
        for (const [x, y] of [
          [a, b],
          [c, d]
        ] as const) {
          network.initiate(x, y)
          network.drain()
        }
      }
    const before = spread(network.parameters)
    gather(network, 40, 'healed')
    expect(spread(network.parameters)).toBeLessThan(before / 20)
  })

  it('find out that they are the odd one out, where the others do not', () => {
    const network = clipping(
      Array.from({ length: 8 }, (_, i) =>
        at(i === 0 ? 0 : 1, 'crowd', i).map((v, k) => v + (i === 0 ? 0 : at(30, 'far')[k]!))
      )
    )
    gather(network, 16, 'odd')
    expect(network.states.map(({ distances }) => isOddOneOut(distances))).toEqual(network.states.map((_, i) => i === 0))
  })
})
