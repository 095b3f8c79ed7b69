import fs from 'node:fs'
import { tmpdir } from 'node:os'
import fc from 'fast-check'
import { afterEach, describe, expect, it, vi } from 'vitest'
import { seededRng } from '../../../src/base/rng.js'
import { createNumberList } from '../../../src/data/formats/number-list.js'
import { createSpool } from '../../../src/data/formats/spool.js'
import { runs } from '../../counts.js'

/** The disk's part in a spool's writing, by the tests that fill it. */
const disk = vi.hoisted(() => ({ writeSync: undefined as typeof fs.writeSync | undefined }))
vi.mock('node:fs', async (original) => {
  const real = await original<typeof fs>()
  const writeSync = (...args: Parameters<typeof fs.writeSync>) => (disk.writeSync ?? real.writeSync)(...args)
  return { ...real, default: real, writeSync }
})
afterEach(() => {
  disk.writeSync = undefined
  vi.unstubAllEnvs()
})

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

describe('a spool whose disk', () => {
  const blocks = Uint8Array.from({ length: 3 * 2 ** 20 }, (_, i) => (i * 7) % 253)

  it('takes a part of what it is given at a time gets all of it', () => {
    disk.writeSync = ((file: number, bytes: Uint8Array, at: number, length: number, position: number) =>
      fs.writeSync(file, bytes, at, Math.min(length, 300_001), position)) as typeof fs.writeSync
    const spool = createSpool({ memoryBlocks: 0 })
    spool.append(blocks)
    expect(Buffer.compare(spool.read(0, blocks.length), blocks)).toBe(0)
    spool.close()
  })

  it('is full says where, and what to do', () => {
    disk.writeSync = () => {
      throw Object.assign(new Error('ENOSPC: no space left on device, write'), { code: 'ENOSPC' })
    }
    const spool = createSpool({ memoryBlocks: 0 })
    expect(() => spool.append(blocks)).toThrowError(
      expect.objectContaining({
        code: 'data/cannot-spool',
        message: `cannot keep the examples in ${tmpdir()} (no space left on the device)`,
        hint: expect.stringContaining('TMPDIR=')
      })
    )
    spool.close()
  })

  it.runIf(process.platform !== 'win32')('has no folder for temporary files says which it looked for', () => {
    vi.stubEnv('TMPDIR', '/nowhere/at/all')
    const spool = createSpool({ memoryBlocks: 0 })
    expect(() => spool.append(blocks)).toThrowError(/\/nowhere\/at\/all \(no such file or directory\)/)
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
