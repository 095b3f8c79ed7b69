import { describe, expect, it } from 'vitest'
import { meterAllocations } from '../../../bench/wire/allocation-meter.js'
import { fuzz } from '../../../bench/wire/fuzz.js'
import { fuzzedFrame, MAX_FUZZ_BYTES } from '../../../bench/wire/fuzz-frames.js'
import type { FuzzTarget } from '../../../bench/wire/fuzz-target.js'
import { FUZZ_TARGETS } from '../../../bench/wire/fuzz-targets.js'
import { seededRng } from '../../../src/base/rng.js'
import { decoded, refused, reject } from '../../../src/base/verdict.js'
import { FUZZED_FRAMES } from '../../counts.js'

describe('mutated and random frames', () => {
  it('are refused with a code or read, without an exception and within their memory, by every decoder', async () => {
    const frames = Math.ceil(FUZZED_FRAMES / FUZZ_TARGETS.length)
    for (const target of FUZZ_TARGETS) {
      const result = await fuzz(target, { seed: 'suite', from: 0, frames })
      expect(result.failures).toEqual([])
      const judged = Object.values(result.refused).reduce((sum, count) => sum + count, result.accepted)
      expect(judged).toBe(frames)
      // Not all one or the other: a mutation that changes nothing finds nothing.
      expect(result.accepted).toBeGreaterThan(0)
      expect(result.accepted).toBeLessThan(frames)
    }
  })

  it('come back from their seed alone, and stay short', () => {
    const { seeds } = FUZZ_TARGETS[0]!
    for (let index = 0; index < 500; index++) {
      const frame = fuzzedFrame(seeds, seededRng('again', index))
      expect(Buffer.compare(fuzzedFrame(seeds, seededRng('again', index)), frame)).toBe(0)
      expect(frame.length).toBeLessThanOrEqual(MAX_FUZZ_BYTES)
    }
  })
})

describe('the fuzzer', () => {
  const broken = (change: Partial<FuzzTarget>): FuzzTarget => ({
    name: 'broken',
    seeds: [Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8)],
    mostBytes: 1_000,
    decode: (frame) => (frame.length > 3 ? decoded(0) : refused(reject('codec/truncated'))),
    ...change
  })
  const failuresOf = async (change: Partial<FuzzTarget>) =>
    (await fuzz(broken(change), { seed: 's', from: 0, frames: 400 })).failures.map(({ what }) => what)

  it('passes a decoder that does nothing wrong', async () => {
    expect(await failuresOf({})).toEqual([])
  })

  it('finds an exception, a length that was believed, a refusal without a code and a value with a flaw', async () => {
    const throwing = await failuresOf({
      decode: (frame) => {
        if (frame[0] === 0xff) throw new RangeError('oops')
        return decoded(0)
      }
    })
    expect(throwing[0]).toMatch(/threw RangeError: oops/)
    const trusting = await failuresOf({
      decode: (frame) => decoded(new Float32Array(frame[0] === undefined ? 0 : 8 * frame[0]).length)
    })
    expect(trusting[0]).toMatch(/asked for \d+ bytes, at most 1000/)
    expect((await failuresOf({ decode: () => refused(reject('whatever')) }))[0]).toMatch(/unknown code whatever/)
    expect((await failuresOf({ flaw: () => 'odd' }))[0]).toBe('odd')
  })

  it('takes its meter out again', () => {
    const { Float32Array: before } = globalThis
    const meter = meterAllocations()
    expect(new Float32Array(10)).toBeInstanceOf(before)
    Float32Array.from([1, 2, 3])
    const view = new Uint8Array(new ArrayBuffer(16))
    expect(view.length).toBe(16)
    expect(meter.take()).toBe(40 + 12 + 16)
    meter.remove()
    expect(globalThis.Float32Array).toBe(before)
  })
})
