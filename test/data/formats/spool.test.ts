import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { seededRng } from '../../../src/base/rng.js'
import { createNumberList } from '../../../src/data/formats/number-list.js'
import { createSpool } from '../../../src/data/formats/spool.js'
import { runs } from '../../counts.js'

describe('a spool', () => {
  it('gives back what it was given, from memory, from the file and across both', () => {
    const rng = seededRng('spool')
    const whole = Uint8Array.from({ length: 3_500_000 }, () => rng.integer(256))
    // One block of a mebibyte in memory, two in the file, the last half full.
    const spool = createSpool({ memoryBlocks: 1 })
    for (let at = 0, step = 1; at < whole.length; at += step, step = 1 + rng.integer(200_000))
      spool.append(whole.subarray(at, at + step))
    expect(spool.size).toBe(whole.length)
    fc.assert(
      fc.property(fc.nat(whole.length - 1), fc.nat(1_500_000), (start, length) => {
        const end = Math.min(whole.length, start + length)
        expect(Buffer.compare(spool.read(start, end - start), whole.subarray(start, end))).toBe(0)
      }),
      { numRuns: runs(30) }
    )
    spool.close()
  })

  it('has an end', () => {
    const spool = createSpool({ maxBytes: 10 })
    spool.append(new Uint8Array(7))
    expect(() => spool.append(new Uint8Array(4))).toThrowError(expect.objectContaining({ code: 'data/spool-full' }))
    expect(spool.size).toBe(7)
  })
})

describe('a list of numbers', () => {
  it('keeps them over the border of a piece', () => {
    const list = createNumberList(Float64Array)
    for (let i = 0; i < 70_000; i++) list.push(i * 1.5)
    expect(list.length).toBe(70_000)
    expect([0, 65_535, 65_536, 69_999].map(list.at)).toEqual([0, 98_302.5, 98_304, 104_998.5])
  })
})
