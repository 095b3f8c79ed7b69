import { describe, expect, it } from 'vitest'
import { attackExperiment } from '../../../bench/mixing/attack-experiment.js'
import { ATTACKS } from '../../../src/sim/attack/attacks.js'
import { SUGGESTED_MAX_PULL } from '../../../src/consensus/rules/mixing.js'
import { SUGGESTED_CLIP } from '../../../src/consensus/rules/radius.js'
import { MAX_WEIGHT } from '../../../src/consensus/weight.js'

/** Fifteen peers, three of them liars; labels split unevenly. About 88 % is what honest mixing reaches. */
const scene = { peers: 15, attackers: 3, dirichlet: 0.3, seed: 'test' }
const clip = SUGGESTED_CLIP

describe('a fifth of liars', () => {
  const honest = attackExperiment(scene)

  it('are no loss where they behave, with clipping or without', () => {
    expect(honest.accuracy).toBeGreaterThan(0.8)
    expect(attackExperiment({ ...scene, clip }).accuracy).toBeGreaterThan(honest.accuracy - 0.03)
  })

  /** What is learned where they are refused whatever they send: their data are missing, and nothing else happens. */
  const without = attackExperiment({ ...scene, clip, lie: { payload: (bytes) => bytes.map(() => 0x7e) } })

  it('are refused where they send no numbers', () => {
    expect(without.refused).toBeGreaterThan(100)
    expect(without.accuracy).toBeGreaterThan(honest.accuracy - 0.08)
  })

  it.each(['sign-flip', 'alie-10', 'dissensus'] as const)(
    '%s ruins the mean and costs little with clipping',
    (name) => {
      const lie = { claims: ATTACKS[name] }
      expect(attackExperiment({ ...scene, lie }).accuracy).toBeLessThan(honest.accuracy - 0.2)
      expect(attackExperiment({ ...scene, lie, clip }).accuracy).toBeGreaterThan(without.accuracy - 0.05)
    }
  )

  it('lead nobody farther and farther away from the others', () => {
    const alike = { peers: 16, attackers: 4, seed: 'bench-1', clip }
    const { worst } = attackExperiment({ ...alike, lie: { claims: ATTACKS['alie-10'] } })
    expect(worst).toBeGreaterThan(attackExperiment(alike).worst - 0.05)
  })

  it('move nobody farther by claiming to have all the examples there are', () => {
    const lie = { claims: ATTACKS.dissensus }
    const heavy = { ...lie, examples: MAX_WEIGHT }
    const accuracyOf = (defence: { readonly maxPull?: number }, one: typeof lie) =>
      attackExperiment({ ...scene, peers: 16, attackers: 4, seed: 'bench-1', clip, ...defence, lie: one }).accuracy
    const bounded = { maxPull: SUGGESTED_MAX_PULL }
    expect(accuracyOf({}, heavy)).toBeLessThan(accuracyOf({}, lie) - 0.1)
    expect(accuracyOf(bounded, heavy)).toBeGreaterThan(accuracyOf(bounded, lie) - 0.01)
  })

  it('with a new name every time has no say in how far others are followed', () => {
    const lie = { claims: ATTACKS.dissensus, manyNames: true }
    expect(attackExperiment({ ...scene, lie, clip }).accuracy).toBeGreaterThan(without.accuracy - 0.05)
  })
})
