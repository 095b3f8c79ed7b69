import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs'
import { open, rename } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { seededRng } from '../../src/base/rng.js'
import { silentLogger } from '../../src/base/log.js'
import {
  bytesWanted,
  type CheckpointFiles,
  createFileStore,
  NEWEST_FILE,
  PREVIOUS_FILE,
  WORK_FILE
} from '../../src/checkpoint/file-store.js'
import type { NodeState } from '../../src/checkpoint/state.js'
import { IDENTITY, stateAt } from './states.js'
import { checkpointStoreSuite } from './store-suite.js'

const freshDirectory = () => mkdtempSync(join(tmpdir(), 'peertune-checkpoint-'))

describe('the file store', () => {
  const made: string[] = []
  afterAll(() => {
    for (const directory of made) rmSync(directory, { recursive: true, force: true })
  })
  checkpointStoreSuite('the file store', async (log) => {
    const directory = freshDirectory()
    made.push(directory)
    return {
      store: createFileStore({ directory, log }),
      reopen: () => createFileStore({ directory, log }),
      async damage(which) {
        const path = join(directory, which === 'newest' ? NEWEST_FILE : PREVIOUS_FILE)
        truncateSync(path, statSync(path).size - 5)
      }
    }
  })
})

/** A disk whose power is cut just before the change number `after`; a write is then half done. */
function dyingDisk(after: number): { files: CheckpointFiles; changes: () => number } {
  let changes = 0
  const alive = () => {
    if (changes === after) throw new Error('power cut')
    changes++
  }
  const files: CheckpointFiles = {
    async open(path, flags, mode) {
      alive()
      const handle = await open(path, flags, mode)
      return {
        async writeFile(data) {
          if (changes === after) await handle.writeFile((data as Uint8Array).subarray(0, 5))
          alive()
          await handle.writeFile(data)
        },
        async sync() {
          alive()
          await handle.sync()
        },
        close: () => handle.close()
      }
    },
    async rename(from, to) {
      alive()
      await rename(from, to)
    }
  }
  return { files, changes: () => changes }
}

describe('a file store whose save is interrupted', () => {
  let directory: string
  beforeEach(() => {
    directory = freshDirectory()
  })
  afterEach(() => rmSync(directory, { recursive: true, force: true }))
  const load = () => createFileStore({ directory, log: silentLogger }).load(IDENTITY)

  it('has the state before or after at every single step, and can save again', async () => {
    const whole = dyingDisk(Number.POSITIVE_INFINITY)
    await createFileStore({ directory, log: silentLogger, files: whole.files }).save(stateAt(0))
    // open, head, three vectors, two in doubt, hash, sync, two renames, open and sync of the directory
    expect(whole.changes()).toBe(13)
    let last = 0
    for (let after = 0; after < whole.changes(); after++) {
      const store = createFileStore({ directory, log: silentLogger, files: dyingDisk(after).files })
      await expect(store.save(stateAt(last + 1))).rejects.toThrow('power cut')
      const got = await load()
      expect([last, last + 1]).toContain(got?.step)
      expect(got).toEqual(stateAt(got!.step))
      last += 2
      await createFileStore({ directory, log: silentLogger }).save(stateAt(last))
      expect(await load()).toEqual(stateAt(last))
    }
  })

  it('has a whole state at every single step, the newest before it being damaged', async () => {
    for (let after = 0; after < 12; after++) {
      const before = createFileStore({ directory, log: silentLogger })
      await before.save(stateAt(1))
      await before.save(stateAt(2))
      writeFileSync(join(directory, NEWEST_FILE), 'not what it was')
      const store = createFileStore({ directory, log: silentLogger, files: dyingDisk(after).files })
      expect((await store.load(IDENTITY))?.step).toBe(1)
      await expect(store.save(stateAt(3))).rejects.toThrow('power cut')
      expect([1, 3]).toContain((await load())?.step)
    }
  })

  it('is readable by its owner alone', async () => {
    const inner = join(directory, 'made')
    await createFileStore({ directory: inner, log: silentLogger }).save(stateAt(1))
    expect(statSync(inner).mode & 0o777).toBe(0o700)
    expect(statSync(join(inner, NEWEST_FILE)).mode & 0o777).toBe(0o600)
  })

  it('names the file in what it refuses', async () => {
    writeFileSync(join(directory, NEWEST_FILE), 'garbage')
    await expect(load()).rejects.toMatchObject({
      code: 'checkpoint/corrupt',
      message: expect.stringContaining(join(directory, NEWEST_FILE))
    })
  })
})

describe('a node that is killed while it saves', () => {
  const SIZE = 400_000
  const KILLS = 8
  let directory: string
  beforeAll(() => {
    directory = freshDirectory()
  })
  afterAll(() => rmSync(directory, { recursive: true, force: true }))

  /** Runs a process that saves without end, kills it in the middle of a save; the last step it knew to be safe. */
  async function saveAndDie(first: number, delayBytes: number): Promise<{ safe: number; begun: number }> {
    const entry = fileURLToPath(new URL('./fixtures/saver.mjs', import.meta.url))
    const child = spawn(process.execPath, [entry, directory, String(SIZE), String(first)], {
      stdio: ['ignore', 'pipe', 'inherit']
    })
    const exited = once(child, 'exit')
    let safe = first - 1
    let begun = first - 1
    for await (const line of createInterface({ input: child.stdout })) {
      const [word, step] = line.split(' ')
      if (word === 'saved') safe = Number(step)
      if (word === 'begin') begun = Number(step)
      if (begun < first + 2 || safe === begun || child.killed) continue
      await untilWritten(join(directory, WORK_FILE), delayBytes)
      child.kill('SIGKILL')
    }
    await exited
    return { safe, begun }
  }

  const isWhole = (state: NodeState): boolean =>
    [state.parameters, state.adam.m, state.adam.v].every((vector) => vector.every((value) => value === state.step))

  it('comes back with a whole state, no older than the last it knew to be safe', async () => {
    const rng = seededRng('kill')
    let first = 1
    let halfWritten = 0
    for (let kill = 0; kill < KILLS; kill++) {
      const { safe, begun } = await saveAndDie(first, rng.integer(3 * 4 * SIZE))
      if (existsSync(join(directory, WORK_FILE))) halfWritten++
      const state = await createFileStore({ directory, log: silentLogger }).load({
        federationHash: 'f',
        schemaHash: 's'
      })
      expect(state).toBeDefined()
      expect(isWhole(state!)).toBe(true)
      expect(state!.step).toBeGreaterThanOrEqual(safe)
      expect(state!.step).toBeLessThanOrEqual(begun + 1)
      first = state!.step + 1
    }
    expect(halfWritten).toBeGreaterThan(KILLS / 2)
  })
})

/** Resolves when a file of that name has that many bytes; saves follow each other, so it comes round. */
async function untilWritten(path: string, bytes: number): Promise<void> {
  for (;;) {
    if ((statSync(path, { throwIfNoEntry: false })?.size ?? -1) >= bytes) return
    await new Promise<void>((resolve) => setImmediate(resolve))
  }
}

describe('the room that checkpoints will take', () => {
  it('is that of three, less what lies there already', async () => {
    const directory = freshDirectory()
    try {
      const size = 10_000
      const least = 3 * 4 * size
      const before = await bytesWanted(directory, size)
      // Three vectors of float32, and a head and a hash of some bytes.
      expect(before).toBeGreaterThan(3 * least)
      expect(before).toBeLessThan(3 * (least + 100))
      const store = createFileStore({ directory, log: silentLogger })
      await store.save({ ...stateAt(1, size), inDoubt: {} })
      expect(statSync(join(directory, NEWEST_FILE)).size).toBeGreaterThanOrEqual(before / 3)
      expect(await bytesWanted(directory, size)).toBe((2 * before) / 3)
      await store.save({ ...stateAt(2, size), inDoubt: {} })
      expect(await bytesWanted(directory, size)).toBe(before / 3)
    } finally {
      rmSync(directory, { recursive: true, force: true })
    }
  })
})
