import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { claimedShare, MOST_MEDIANS } from '../../src/consensus/claimed-share.js'
import { MAX_WEIGHT } from '../../src/consensus/weight.js'

describe('an author’s share of all examples', () => {
  it('is what all say, where nobody says much more than most', () => {
    expect(claimedShare(150, [50, 100, 380])).toEqual({ samples: 150, totalSamples: 680 })
    expect(claimedShare(7, [])).toEqual({ samples: 7, totalSamples: 7 })
  })

  it('counts no claim for more than four median ones, our own neither', () => {
    // Of 50, 100, 150 and 10^9 the lower median is 100.
    expect(claimedShare(150, [MAX_WEIGHT, 50, 100])).toEqual({ samples: 150, totalSamples: 700 })
    expect(claimedShare(2_000, [100, 100, 50])).toEqual({ samples: 400, totalSamples: 650 })
  })

  it('a minority that claims anything leaves the others most of theirs', () => {
    const claims = fc.array(fc.integer({ min: 1, max: 1_000 }), { minLength: 3, maxLength: 12 })
    fc.assert(
      fc.property(claims, fc.array(fc.integer({ min: 1, max: MAX_WEIGHT }), { maxLength: 12 }), (honest, lies) => {
        const liars = lies.slice(0, honest.length - 1)
        const [own = 1, ...others] = honest
        const { samples, totalSamples } = claimedShare(own, [...others, ...liars])
        const most = MOST_MEDIANS * Math.max(...honest)
        const honestTotal = honest.reduce((sum, claim) => sum + claim, 0)
        expect(totalSamples).toBeLessThanOrEqual(honestTotal + liars.length * most)
        expect(samples).toBeLessThanOrEqual(own)
        expect(samples).toBeGreaterThanOrEqual(Math.min(own, MOST_MEDIANS * Math.min(...honest, ...liars)))
      })
    )
  })
})
