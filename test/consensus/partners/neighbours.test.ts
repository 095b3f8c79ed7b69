import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { seededRng } from '../../../src/base/rng.js'
import { metropolisHastings, spectralGap } from '../../../src/sim/study/mixing-matrix.js'
import { overlayNeighbours } from '../../../src/consensus/partners/neighbours.js'
import type { Overlay } from '../../../src/consensus/partners/overlay.js'
import { isConnected } from '../../../src/consensus/partners/overlay.js'
import { choosePartner, initialPartnerState, noteAttempt } from '../../../src/consensus/partners/partner.js'
import { distance2, weightedMean } from '../../../src/tensor/linear.js'
import { gaussian } from '../../codec/codec-cases.js'
import { machineNetwork } from '../exchange/machines.js'
import { runs } from '../../counts.js'

const KINDS = ['ring', 'torus', 'random-regular', 'exponential', 'complete'] as const
type Kind = (typeof KINDS)[number]
const names = (size: number): string[] => Array.from({ length: size }, (_, i) => `peer-${i}`)

/** What every member lays out for itself, as one graph. */
function overlayOf(kind: Kind, members: readonly string[], degree = 6): Overlay {
  return members.map((self) =>
    overlayNeighbours(
      { kind, degree, seed: 'seed' },
      self,
      members.filter((peer) => peer !== self)
    )
      .map((peer) => members.indexOf(peer))
      .sort((a, b) => a - b)
  )
}

describe.each(KINDS)('a %s laid out by each for itself', (kind) => {
  it('is one connected graph whose edges both ends know, whoever is there and in whatever order they are listed', () => {
    fc.assert(
      fc.property(fc.integer({ min: 2, max: 40 }), fc.string(), (size, seed) => {
        const members = names(size)
        const overlay = overlayOf(kind, members)
        expect(isConnected(overlay)).toBe(true)
        overlay.forEach((row, i) => {
          expect(row).not.toContain(i)
          for (const j of row) expect(overlay[j]).toContain(i)
        })
        const shuffled = seededRng(seed).shuffle(members)
        const again = overlayOf(kind, shuffled)
        const renamed = (row: readonly number[]) => row.map((j) => members.indexOf(shuffled[j]!)).sort((a, b) => a - b)
        expect(renamed(again[shuffled.indexOf('peer-0')]!)).toEqual(overlay[0])
      }),
      { numRuns: runs(30) }
    )
  })
})

describe('a random regular overlay of three rings', () => {
  it('mixes about as well as a uniform draw: Friedman’s bound for degree 6', () => {
    // The second eigenvalue of a random 6-regular graph is about 2 sqrt(5); with weights 1 / 7 that leaves a gap of 0.22.
    expect(spectralGap(metropolisHastings(overlayOf('random-regular', names(64))))).toBeGreaterThan(0.15)
  })

  it('changes for few when one comes or goes', () => {
    const before = names(40)
    const edges = (members: readonly string[]) =>
      new Set(overlayOf('random-regular', members).flatMap((row, i) => row.map((j) => `${members[i]} ${members[j]}`)))
    const [all, left] = [edges(before), edges(before.slice(1))]
    const gone = [...all].filter((edge) => !left.has(edge) && !edge.includes('peer-0'))
    const added = [...left].filter((edge) => !all.has(edge))
    // peer-0 leaves a gap in each of three rings: three new edges at most, told from both ends.
    expect(gone).toHaveLength(0)
    expect(added.length).toBeLessThanOrEqual(6)
  })
})

describe('choosing along an overlay', () => {
  it('gives every neighbour its turn, passes over who rests, and takes anybody where no neighbour is there', () => {
    const rng = seededRng('turns')
    const neighbours = ['b', 'c', 'd']
    let state = initialPartnerState
    const asked: string[] = []
    for (let i = 0; i < 9; i++) {
      const [next, partner] = choosePartner(state, {
        candidates: ['a', ...neighbours],
        neighbours,
        inDoubt: [],
        nowMs: 0,
        rng
      })
      asked.push(partner!)
      state = noteAttempt(next, { peer: partner!, result: 'committed' }, { nowMs: 0, rng })
    }
    for (const from of [0, 3, 6]) expect(asked.slice(from, from + 3).toSorted()).toEqual(neighbours)
    expect(asked.slice(3, 6)).toEqual(asked.slice(0, 3))
    const busy = noteAttempt(state, { peer: asked[0]!, result: 'busy' }, { nowMs: 0, rng })
    const question = { candidates: ['a', ...neighbours], neighbours, inDoubt: [], nowMs: 0, rng }
    expect(choosePartner(busy, question)[1]).toBe(asked[1])
    expect(choosePartner(state, { ...question, candidates: ['a'] })[1]).toBe('a')
    expect(choosePartner(state, { ...question, inDoubt: ['a'] })[1]).toBe('a')
  })
})

describe('a Metropolis-Hastings exchange', () => {
  const SIZE = 30
  const starts = [0, 1, 2].map((i) => gaussian(SIZE, 'start', i))
  const network = () =>
    machineNetwork({ weights: [3, 5, 4], reference: new Float32Array(SIZE), starts, codec: 'float32' })

  it('moves both by 2 / (1 + the larger degree) of a pair average, and keeps the weighted mean', () => {
    const machines = network()
    machines.places[0] = { degree: 2 }
    machines.places[1] = { degree: 4 }
    machines.initiate(0, 1)
    machines.drain()
    const apart = distance2(starts[0]!, starts[1]!)
    expect(distance2(starts[0]!, machines.parameters[0]!) / apart).toBeCloseTo((2 / 5) * (5 / 8), 6)
    expect(distance2(starts[1]!, machines.parameters[1]!) / apart).toBeCloseTo((2 / 5) * (3 / 8), 6)
    const means = [starts, machines.parameters].map((vectors) => weightedMean(vectors, [3, 5, 4]))
    expect(Math.max(...means[0]!.map((value, i) => Math.abs(value - means[1]![i]!)))).toBeLessThan(1e-6)
  })

  it('is the pair average for one neighbour, and where a side has none to tell of', () => {
    for (const places of [
      [{ degree: 1 }, { degree: 1 }],
      [{ degree: 6 }, {}]
    ]) {
      const [machines, plain] = [network(), network()]
      machines.places[0] = places[0]!
      machines.places[1] = places[1]!
      for (const one of [machines, plain]) {
        one.initiate(0, 1)
        one.drain()
      }
      expect(machines.parameters).toEqual(plain.parameters)
    }
  })
})
