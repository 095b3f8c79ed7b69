import { mkdtempSync, readdirSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs'
import { open } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { seededRng } from '../../src/base/rng.js'
import { silentLogger } from '../../src/base/log.js'
import type { LogIdentity } from '../../src/checkpoint/log-identity.js'
import { createFileExchangeLog, type FileExchangeLogOptions } from '../../src/checkpoint/file-exchange-log.js'
import { NEWEST_FILE } from '../../src/checkpoint/file-store.js'
import type { LogEntry } from '../../src/consensus/exchange/exchange-log.js'

const SIZE = 7
const IDENTITY: LogIdentity = { federationHash: 'a'.repeat(64), schemaHash: 'b'.repeat(64), size: SIZE }

function entry(n: number): LogEntry {
  const about = { exchangeId: `exchange-${n}`, peer: `peer-${n % 3}` }
  if (n % 3 === 0) return { kind: 'settled', ...about, fate: n % 2 === 0 ? 'committed' : 'undone' }
  const rng = seededRng('entry', n)
  const increment = Float32Array.from({ length: SIZE }, () => rng.uniform() - 0.5)
  return { kind: n % 3 === 1 ? 'in-doubt' : 'committed', ...about, partnerPhase: 'settling', increment }
}
const entries = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, i) => entry(from + i))

let directory: string
let warnings: string[]
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'peertune-log-'))
  // As in a data directory, where checkpoints lie beside the log.
  writeFileSync(join(directory, NEWEST_FILE), 'no segment')
  warnings = []
})
afterEach(() => rmSync(directory, { recursive: true, force: true }))

const openLog = (over: Partial<FileExchangeLogOptions> = {}) =>
  createFileExchangeLog({
    directory,
    identity: IDENTITY,
    log: { ...silentLogger, warn: (_, message) => warnings.push(message) },
    ...over
  })
const segments = () =>
  readdirSync(directory)
    .filter((name) => name !== NEWEST_FILE)
    .toSorted()

/** Writes entries `from` to `to` in one life. */
async function life(after: number, from: number, to: number): Promise<void> {
  const log = openLog()
  await log.load(after)
  for (const one of entries(from, to)) log.append(one)
  await log.close()
}

describe('the exchange log', () => {
  it('gives back everything since the checkpoint, over several lives', async () => {
    await life(0, 1, 4)
    await life(0, 5, 9)
    expect(await openLog().load(0)).toEqual(entries(1, 9))
    expect(await openLog().load(6)).toEqual(entries(7, 9))
    expect(await openLog().load(9)).toEqual([])
    expect(warnings).toEqual([])
  })

  it('numbers on behind what it found', async () => {
    await life(0, 1, 4)
    const log = openLog()
    await log.load(2)
    expect(log.sequence()).toBe(4)
    log.append(entry(5))
    expect(log.sequence()).toBe(5)
  })

  it('ends before a record that a crash cut off, wherever it was cut, and goes on there', async () => {
    await life(0, 1, 3)
    const path = join(directory, segments()[0]!)
    const whole = statSync(path).size
    await life(0, 4, 4)
    rmSync(join(directory, segments()[1]!))
    for (let size = whole - 1; size >= 0; size--) {
      truncateSync(path, size)
      const found = await openLog().load(0)
      expect(found).toEqual(entries(1, found.length))
      expect(found.length).toBeLessThan(3)
    }
    await life(0, 1, 2)
    expect(await openLog().load(0)).toEqual(entries(1, 2))
  })

  it('writes entries that come together together, and says so once they are safe', async () => {
    const synced: number[] = []
    let writes = 0
    const log = openLog({
      openFile: async (path) => {
        const file = await open(path, 'w')
        return {
          writev: (buffers) => {
            writes++
            return file.writev(buffers)
          },
          datasync: () => file.datasync(),
          close: () => file.close()
        }
      }
    })
    await log.load(0)
    const waits = entries(1, 20).map((one, i) => {
      log.append(one)
      return log.synced().then(() => synced.push(i))
    })
    await Promise.all(waits)
    // The head of the segment, and all twenty at once.
    expect(writes).toBe(2)
    expect(synced).toHaveLength(20)
    await log.close()
  })

  it('forgets whole segments that a checkpoint contains, and no entry that it does not', async () => {
    const log = openLog()
    await log.load(0)
    for (let checkpoint = 0; checkpoint < 3; checkpoint++) {
      for (const one of entries(5 * checkpoint + 1, 5 * checkpoint + 5)) log.append(one)
      await log.trim(5 * checkpoint)
    }
    expect(segments()).toHaveLength(1)
    expect(await openLog().load(10)).toEqual(entries(11, 15))
    await log.trim(12)
    expect(await openLog().load(12)).toEqual(entries(13, 15))
    await log.trim(15)
    expect(segments()).toEqual([])
    log.append(entry(16))
    await log.synced()
    expect(await openLog().load(15)).toEqual([entry(16)])
    await log.close()
  })

  it('leaves out what is behind a gap, and its numbers are used again', async () => {
    await life(0, 1, 3)
    await life(0, 4, 6)
    rmSync(join(directory, segments()[0]!))
    expect(await openLog().load(0)).toEqual([])
    expect(warnings).toHaveLength(1)
    await life(0, 1, 8)
    expect(await openLog().load(0)).toEqual(entries(1, 8))
  })

  it('refuses a log of another federation or schema', async () => {
    await life(0, 1, 2)
    const other = (identity: Partial<LogIdentity>) => openLog({ identity: { ...IDENTITY, ...identity } }).load(0)
    await expect(other({ federationHash: 'c'.repeat(64) })).rejects.toMatchObject({
      code: 'checkpoint/other-federation'
    })
    await expect(other({ schemaHash: 'c'.repeat(64) })).rejects.toMatchObject({ code: 'checkpoint/other-schema' })
  })

  it('fails whoever waits once the disk fails, and everybody after', async () => {
    const log = openLog({
      openFile: async () => ({
        writev: () => Promise.reject(new Error('no space left')),
        datasync: async () => undefined,
        close: async () => undefined
      })
    })
    await log.load(0)
    log.append(entry(1))
    await expect(log.synced()).rejects.toThrow('no space left')
    log.append(entry(2))
    await expect(log.synced()).rejects.toThrow('no space left')
  })
})
