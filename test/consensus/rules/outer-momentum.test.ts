import { describe, expect, it } from 'vitest'
import { codecByName } from '../../../src/codec/registry.js'
import { type OuterState, outerStep } from '../../../src/consensus/rules/outer-momentum.js'
import { weightedMean } from '../../../src/tensor/linear.js'
import { gaussian } from '../../codec/codec-cases.js'
import { machineNetwork } from '../exchange/machines.js'

const SIZE = 24
const half = (a: Float32Array, b: Float32Array) => a.map((value, i) => (b[i]! - value) / 2)

/** NoLoCo as its paper writes it for pairs, with both slow weights and both differences in hand; g = b. */
function noloco(a: number, b: number, phi: number[][], delta: number[][], theta: Float32Array[]): void {
  const differences = theta.map((vector, k) => [...vector].map((value, i) => value - phi[k]![i]!))
  const next = phi.map((own, k) =>
    own.map((value, i) => {
      const [mine, other] = [differences[k]![i]!, differences[1 - k]![i]!]
      return a * delta[k]![i]! + (b / 2) * (mine + other) - b * (value - (value + phi[1 - k]![i]!) / 2)
    })
  )
  next.forEach((row, k) => {
    delta[k] = row
    phi[k] = phi[k]!.map((value, i) => value + row[i]!)
  })
}

describe('the outer step', () => {
  it('is NoLoCo’s, from one gossiped vector', () => {
    const [decay, step] = [0.5, 0.7]
    const theta = [gaussian(SIZE, 0), gaussian(SIZE, 1)]
    const phi = theta.map((vector) => [...vector])
    const delta = phi.map((row) => row.map(() => 0))
    const states: (OuterState | undefined)[] = [undefined, undefined]
    for (let round = 0; round < 6; round++) {
      const before = theta.map((vector) => vector.slice())
      noloco(decay, step, phi, delta, before)
      const increments = before.map((own, k) =>
        outerStep({ decay, step }, { own, increment: half(own, before[1 - k]!), state: states[k] })
      )
      increments.forEach(({ increment, next }, k) => {
        states[k] = next
        for (let i = 0; i < SIZE; i++) {
          expect(before[k]![i]! + increment[i]!).toBeCloseTo(phi[k]![i]!, 4)
          // Local steps until the next exchange.
          theta[k]![i] = before[k]![i]! + increment[i]! + 0.3 * gaussian(SIZE, 'step', round, k)[i]!
        }
      })
    }
  })

  it('is the pair average for decay 0 and step 1', () => {
    const [own, partner] = [gaussian(SIZE, 'a'), gaussian(SIZE, 'b')]
    const state = { anchor: gaussian(SIZE, 'c'), momentum: gaussian(SIZE, 'd') }
    const { increment } = outerStep({ decay: 0, step: 1 }, { own, increment: half(own, partner), state })
    half(own, partner).forEach((value, i) => {
      expect(increment[i]).toBeCloseTo(value, 5)
    })
  })

  it('keeps the mean of x + a / (1 - a) delta where nobody trains, and brings peers together', () => {
    const starts = Array.from({ length: 6 }, (_, i) => gaussian(SIZE, 'start', i))
    const outer = { decay: 0.3, step: 0.7 }
    const network = machineNetwork({
      weights: starts.map(() => 1),
      reference: new Float32Array(SIZE),
      starts,
      codec: 'float32',
      more: { outer }
    })
    const lead = outer.decay / (1 - outer.decay)
    const conserved = () =>
      weightedMean(
        network.parameters.map((x, k) =>
          x.map((value, i) => value + lead * (network.states[k]!.outer?.momentum[i] ?? 0))
        ),
        starts.map(() => 1)
      )
    const before = conserved()
    for (let round = 0; round < 40; round++)
      for (const [a, b] of [
        [0, 1],
        [2, 3],
        [4, 5],
        [1, 2],
        [3, 4],
        [5, 0]
      ] as const) {
        network.initiate(a, b)
        network.drain()
      }
    const mean = weightedMean(
      network.parameters,
      starts.map(() => 1)
    )
    const spread = Math.max(...network.parameters.map((x) => Math.hypot(...x.map((value, i) => value - mean[i]!))))
    expect(spread).toBeLessThan(1e-3)
    conserved().forEach((value, i) => {
      expect(value).toBeCloseTo(before[i]!, 4)
    })
  })
})

describe('momentum near the end of what a codec can send', () => {
  const MOST = 0.25 * codecByName('float16').range!
  const reference = new Float32Array(SIZE)
  const flat = (value: number) => new Float32Array(SIZE).fill(value)
  /** Machine 0 has come a long way by outer steps; machine 1 keeps its own place. */
  const meeting = (own: number, partner: number, momentum: number) => {
    const network = machineNetwork({
      weights: [1, 1],
      reference,
      starts: [flat(own), flat(partner)],
      codec: 'float16',
      more: { outer: { decay: 0.9, step: 1 } }
    })
    network.states[0] = { ...network.states[0]!, outer: { anchor: flat(own), momentum: flat(momentum) } }
    return network
  }
  const judged = ({ log }: ReturnType<typeof meeting>) =>
    log.flatMap(({ machine, effect }) => (effect.type === 'penalise' ? [{ machine, ...effect.verdict }] : []))

  it.each([
    [0, 1],
    [1, 0]
  ])('is not held against an honest partner when it leads out, %i calling %i', (from, to) => {
    const network = meeting(0.96 * MOST, 0.94 * MOST, 0.1 * MOST)
    network.initiate(from, to)
    network.drain()
    expect(judged(network)).toMatchObject([{ machine: 0, verdict: 'ignore', code: 'exchange/own-step-too-far' }])
    expect(network.parameters[0]).toEqual(flat(0.96 * MOST))
    expect(
      network.carried.flatMap(({ item }) => (item.kind === 'send' ? [item.effect.message] : [])).at(-1)
    ).toMatchObject({ type: 'refuse', code: 'unspecified' })
  })

  it('does not excuse a partner whose own state leads out', () => {
    const network = meeting(0.96 * MOST, 3 * MOST, 0.1 * MOST)
    network.initiate(0, 1)
    network.drain()
    expect(judged(network)).toMatchObject([{ machine: 0, verdict: 'reject', code: 'codec/not-finite' }])
  })

  it('mixes where momentum leads back into the range that the pair would leave', () => {
    const network = meeting(0.96 * MOST, 1.2 * MOST, -0.5 * MOST)
    network.initiate(1, 0)
    network.drain()
    expect(judged(network)).toEqual([])
    expect(network.parameters[0]![0]! / MOST).toBeCloseTo(1.08 - 0.45, 2)
  })
})
