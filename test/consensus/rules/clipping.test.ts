import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { productDistance } from '../../../src/consensus/rules/distance.js'
import {
  announcedRadius,
  clipScale,
  type Distances,
  growthOf,
  holdsBack,
  isOddOneOut,
  MAX_DISTANCES,
  noDistances,
  noteDistance,
  radiusOf
} from '../../../src/consensus/rules/radius.js'
import { distance2, weightedMean } from '../../../src/tensor/linear.js'
import { gaussian, schema } from '../../codec/codec-cases.js'
import { machineNetwork } from '../exchange/machines.js'

const pace = { step: 30, localSteps: 10 }

/** Each met twice at step 30, so that all of them have a vote. */
const met = (...values: readonly number[]): Distances => {
  const once = (distances: Distances) =>
    values.reduce((sum, distance, i) => noteDistance(sum, { peer: `peer-${i}`, distance }, pace), distances)
  return once(once({ ...noDistances, atStep: 30 }))
}
const radius = (clip: number, distances: Distances, distanceFromStart: number, step = 30) =>
  radiusOf(clip, distances, { step, localSteps: 10, distanceFromStart })

describe('the radius', () => {
  it('is the multiple of the lower median of the distances, bounded by the way from the start while few are known', () => {
    expect(radius(2, met(), 3)).toBe(6)
    expect(radius(2, met(5), 3)).toBe(6)
    expect(radius(2, met(2, 1), 3)).toBe(4)
    expect(radius(2, met(2, 1, 2.5), 3)).toBe(4)
    expect(radius(1.5, met(5, 4, 1, 9), 3)).toBe(4.5)
    expect(radius(1, met(5, 4, 9), 0.1)).toBe(4)
    expect(radius(1, met(5, 4, 9, 8, 6, 7), 0.1)).toBe(6)
  })

  it('does not move past an honest distance while liars are in the minority', () => {
    fc.assert(
      fc.property(
        fc.array(fc.double({ min: 1, max: 2, noNaN: true }), { minLength: 4, maxLength: 20 }),
        fc.array(fc.double({ min: 1e3, max: 1e9, noNaN: true }), { maxLength: 3 }),
        (honest, lies) => {
          expect(radius(1, met(...honest, ...lies), 1.5)).toBeLessThanOrEqual(2)
        }
      )
    )
  })

  it('does not follow the first that are met, even if most of them lie', () => {
    for (const first of [[1e6], [1e6, 1e6], [1.2, 1e6, 1e6]]) expect(radius(1, met(...first), 1.5)).toBeLessThan(1.6)
  })

  it('of the odd one out is at most twice what most partners are ready to follow it, by one vote of each', () => {
    const told = (heldBack: boolean, ...radii: readonly (number | undefined)[]): Distances => {
      const once = (distances: Distances) =>
        radii.reduce<Distances>((sum, said, i) => {
          const measured = { distance: 50, heldBack, ...(said === undefined ? {} : { radius: said }) }
          return noteDistance(sum, { peer: `peer-${i}`, ...measured }, pace)
        }, distances)
      return once(once({ ...noDistances, atStep: 30 }))
    }
    expect(announcedRadius(35, told(true, 1, 2, 3, 4, 5))).toBe(6)
    expect(announcedRadius(35, told(true, 1, 2, 3, 1e9, 1e9))).toBe(6)
    expect(announcedRadius(35, told(true, 20, 30, 40))).toBe(35)
    expect(announcedRadius(35, told(true, undefined, undefined, undefined))).toBe(35)
    expect(announcedRadius(35, told(false, 1, 2, 3, 4, 5))).toBe(35)
    expect(announcedRadius(35, told(true, 1, 2))).toBe(35)
  })

  it('gives a partner one vote however often it calls, and forgets the one met longest ago', () => {
    let distances = met(1, 2, 3)
    for (let i = 0; i < 100; i++) distances = noteDistance(distances, { peer: 'mallory', distance: 1e6 }, pace)
    expect(radius(1, distances, 2)).toBe(2)
    for (let i = 0; i < 2 * MAX_DISTANCES; i++)
      distances = noteDistance(distances, { peer: `other-${i >> 1}`, distance: 7 }, pace)
    expect(distances.met.size).toBe(MAX_DISTANCES)
    expect(distances.met.has('mallory')).toBe(false)
  })

  it('hears nobody that has a new name every time', () => {
    let distances = met(1, 2, 3)
    for (let i = 0; i < 1000; i++) distances = noteDistance(distances, { peer: `sybil-${i}`, distance: 1e6 }, pace)
    expect(radius(1, distances, 2)).toBe(2)
    expect([...distances.met.keys()]).toEqual(expect.arrayContaining(['peer-0', 'peer-1', 'peer-2']))
  })

  it('grows with the rounds that were missed, up to the way from the start, and not by an ordinary one', () => {
    const distances = met(1, 2, 3, 4, 5)
    expect(growthOf(distances, { step: 50, localSteps: 10 })).toBe(1)
    expect(growthOf(distances, { step: 80, localSteps: 10 })).toBe(5)
    expect(radius(0.5, distances, 100, 80)).toBe(7.5)
    expect(radius(0.5, distances, 6, 80)).toBe(3)
    // The first exchange after the pause measures anew; what was measured before stays grown.
    const after = noteDistance(distances, { peer: 'peer-0', distance: 7 }, { step: 80, localSteps: 10 })
    expect(radius(0.5, after, 100, 80)).toBe(7.5)
    expect(radius(0.5, noteDistance(after, { peer: 'peer-2', distance: 8 }, { ...pace, step: 80 }), 100, 80)).toBe(5)
  })

  it('knows the odd one out: most hold it back, and not only names met once', () => {
    const held = { distance: 10, heldBack: true }
    let distances = met(1, 2, 3)
    expect(isOddOneOut(distances)).toBe(false)
    distances = noteDistance(distances, { peer: 'peer-0', ...held }, pace)
    for (let i = 0; i < 9; i++) distances = noteDistance(distances, { peer: `new-${i}`, ...held }, pace)
    expect(isOddOneOut(distances)).toBe(false)
    expect(isOddOneOut(noteDistance(distances, { peer: 'peer-2', ...held }, pace))).toBe(true)
    expect(holdsBack(10, 5, 1)).toBe(true)
    expect(holdsBack(10, 3, 1)).toBe(false)
    expect(holdsBack(3, 5, 1)).toBe(false)
    expect(holdsBack(10, 5, undefined)).toBe(false)
  })

  it('scales a longer difference to itself, and leaves a shorter one alone', () => {
    expect(clipScale(3, 2)).toBe(1)
    expect(clipScale(3, 4)).toBe(0.75)
    expect(clipScale(3, 4.5)).toBeCloseTo(2 / 3, 12)
    expect(clipScale(Infinity, 1e300)).toBe(1)
    expect(clipScale(0, 0)).toBe(1)
    expect(clipScale(0, 1)).toBe(0)
  })

  it('follows one far beyond it less the farther away it is, but never not at all', () => {
    // 9 is 3 radii: a third of the way for standing on the radius, half of that for standing at twice one and a half.
    expect(clipScale(3, 9)).toBeCloseTo(1 / 6, 12)
    const steps = [4.5, 9, 45, 4.5e6].map((distance) => distance * clipScale(3, distance))
    expect(steps.map((step) => step / 3)).toEqual([1, 0.5, 0.1, 1e-6].map((share) => expect.closeTo(share, 12)))
  })
})

const reference = gaussian(schema.size, 'x0')
const away = (length: number, ...seed: (string | number)[]): Float32Array => {
  const direction = gaussian(schema.size, ...seed)
  const scale = length / Math.hypot(...direction)
  return reference.map((value, i) => value + scale * direction[i]!)
}

const pair = (lengths: readonly [number, number], clip?: number) =>
  machineNetwork({
    weights: [3, 5],
    reference,
    starts: [away(lengths[0], 'a'), away(lengths[1], 'b')],
    codec: 'float32',
    ...(clip === undefined ? {} : { clip })
  })

const meet = (network: ReturnType<typeof pair>): void => {
  network.initiate(0, 1)
  network.drain()
}

describe('an exchange that clips', () => {
  it('moves a peer by no more than its share of the smaller radius, and keeps the weighted mean', () => {
    const network = pair([1, 3], 1)
    const before = network.parameters.map((x) => x.slice())
    meet(network)
    // Peer 0 has come a way of 1, the smaller radius; its share of the difference is 5 / 8.
    const apart = distance2(before[0]!, before[1]!)
    const step = apart * clipScale(1, apart)
    expect(step).toBeLessThan(1)
    expect(distance2(before[0]!, network.parameters[0]!)).toBeCloseTo((step * 5) / 8, 4)
    expect(distance2(before[1]!, network.parameters[1]!)).toBeCloseTo((step * 3) / 8, 4)
    const [mean, now] = [weightedMean(before, [3, 5]), weightedMean(network.parameters, [3, 5])]
    expect(Math.hypot(...mean.map((value, i) => value - now[i]!)) / Math.hypot(...mean)).toBeLessThan(1e-7)
    expect(network.log.flatMap(({ effect }) => (effect.type === 'apply' ? [effect.observed?.scale] : []))).toEqual([
      expect.closeTo(step / apart, 4),
      expect.closeTo(step / apart, 4)
    ])
  })

  it('changes nothing among peers that are about equally far', () => {
    const [plain, clipped] = [pair([1, 1.3]), pair([1, 1.3], 2)]
    meet(plain)
    meet(clipped)
    expect(clipped.parameters).toEqual(plain.parameters)
  })

  it('lets a newcomer catch up once it has met others', () => {
    const network = machineNetwork({
      weights: [4, 4, 4, 4],
      reference,
      starts: [reference, away(10, 'b'), away(10, 'c'), away(10, 'd')],
      clip: 2
    })
    for (const partner of [1, 2, 3, 1, 2, 3, 1, 2, 3]) {
      network.initiate(0, partner)
      network.drain()
    }
    expect(distance2(network.parameters[0]!, reference)).toBeGreaterThan(4)
  })

  it('measures adapters by what they do', () => {
    const measure = productDistance(schema, () => 2)
    const network = machineNetwork({
      weights: [1, 1],
      reference,
      starts: [away(1, 'a'), away(5, 'b')],
      clip: 1,
      measure
    })
    meet(network)
    const observed = network.log.flatMap(({ effect }) => (effect.type === 'apply' ? [effect.observed!] : []))
    expect(observed.map(({ distance, scale }) => [distance, scale])).toEqual(
      observed.map(() => [observed[0]!.distance, observed[0]!.scale])
    )
    // One has come a fifth of the way of the other, and would follow it no farther than that.
    expect(observed.map(({ heldBack = false }) => heldBack).toSorted()).toEqual([false, true])
    expect(observed[0]!.crossTerm).toBeGreaterThan(0)
    expect(observed[0]!.scale).toBeLessThan(1)
  })
})
