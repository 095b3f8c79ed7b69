import { appendFile, mkdtemp, readdir, readFile, rm, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { silentLogger } from '../../src/base/log.js'
import type { BroadcastLog } from '../../src/checkpoint/broadcast-log.js'
import { createFileBroadcastLog } from '../../src/checkpoint/file-broadcast-log.js'
import { GENESIS, type Update } from '../../src/codec/wire/update.js'
import type { BroadcastEntry } from '../../src/consensus/broadcast/types.js'
import { written } from '../consensus/broadcast/broadcasters.js'

let directory: string
let opened: BroadcastLog[]
const identity = { federationHash: 'a'.repeat(64), schemaHash: 'b'.repeat(64), size: 3 }
function open(changes: object = {}): BroadcastLog {
  const log = createFileBroadcastLog({ directory, identity: { ...identity, ...changes }, log: silentLogger })
  opened.push(log)
  return log
}

beforeEach(async () => {
  opened = []
  directory = await mkdtemp(join(tmpdir(), 'peertune-updates-'))
})
afterEach(async () => {
  for (const log of opened) await log.close()
  await rm(directory, { recursive: true, force: true })
})

const row: Update[] = []
for (let sequence = 1; sequence <= 4; sequence++)
  row.push(written({ author: 'anna', sequence, previous: row.at(-1)?.hash ?? GENESIS }))
const other = written({ author: 'anna', sequence: 4, previous: row[2]!.hash, samples: 3 })
const entries: readonly BroadcastEntry[] = [
  ...row.map((update) => ({ kind: 'update', update }) as const),
  { kind: 'evidence', pair: [row[3]!, other] }
]
const file = async () => join(directory, (await readdir(directory)).find((name) => name.endsWith('.log'))!)

async function filled() {
  const log = open()
  await log.load()
  for (const entry of entries) log.append(entry)
  await log.synced()
  return log
}

describe('the log of updates', () => {
  it('gives back what was synced, in order, also after a kill that left no time to close', async () => {
    await filled()
    expect(await open().load()).toEqual({ base: undefined, entries })
  })

  it('keeps what is whole of a tail that a crash cut off, and writes on behind it', async () => {
    await (await filled()).close()
    const path = await file()
    const { length } = await readFile(path)
    await truncate(path, length - 40)
    const log = open()
    expect((await log.load()).entries).toEqual(entries.slice(0, 4))
    log.append(entries[4]!)
    await log.close()
    expect((await open().load()).entries).toEqual(entries)
    await appendFile(path, Buffer.alloc(100, 7))
    expect((await open().load()).entries).toEqual(entries)
  })

  it('begins anew with a sum, and loses nothing that was appended before or after', async () => {
    const log = await filled()
    const base = {
      state: { authors: new Map([['anna', { base: 2, baseHash: row[1]!.hash, held: [], waiting: new Map() }]]) },
      units: Float64Array.from([5, -(2 ** 50), 0])
    }
    const late = written({ author: 'bert', sequence: 1, previous: GENESIS })
    log.append(entries[2]!)
    const rebased = log.rebase(() => ({ base, entries: entries.slice(2) }))
    await rebased
    log.append({ kind: 'update', update: late })
    await log.close()
    expect(await readdir(directory)).toEqual(['updates-000000000002.log'])
    expect(await open().load()).toEqual({ base, entries: [...entries.slice(2), { kind: 'update', update: late }] })
  })

  it('refuses the log of another federation, and is empty where the newest is no log at all', async () => {
    await (await filled()).close()
    await expect(open({ federationHash: 'c'.repeat(64) }).load()).rejects.toMatchObject({
      code: 'checkpoint/other-federation'
    })
    await writeFile(await file(), 'something else')
    expect(await open().load()).toEqual({ base: undefined, entries: [] })
  })
})
