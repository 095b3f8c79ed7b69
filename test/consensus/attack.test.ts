import { describe, expect, it } from 'vitest'
import { attackExperiment } from '../../bench/attack-experiment.js'
import { ATTACKS } from '../../src/consensus/attacks.js'
import { SUGGESTED_CLIP } from '../../src/consensus/radius.js'

/** Fifteen peers, three of them liars; labels split unevenly. About 88 % is what honest mixing reaches. */
const scene = { peers: 15, attackers: 3, dirichlet: 0.3, seed: 'test' }
const clip = SUGGESTED_CLIP

describe('a fifth of liars', () => {
  const honest = attackExperiment(scene)

  it('are no loss where they behave, with clipping or without', () => {
    expect(honest.accuracy).toBeGreaterThan(0.8)
    expect(attackExperiment({ ...scene, clip }).accuracy).toBeGreaterThan(honest.accuracy - 0.03)
  })

  it.each(['sign-flip', 'alie-10', 'dissensus'] as const)(
    '%s ruins the mean and hardly hurts with clipping',
    (name) => {
      const attack = ATTACKS[name]
      expect(attackExperiment({ ...scene, attack }).accuracy).toBeLessThan(honest.accuracy - 0.2)
      expect(attackExperiment({ ...scene, attack, clip }).accuracy).toBeGreaterThan(honest.accuracy - 0.1)
    }
  )
})
