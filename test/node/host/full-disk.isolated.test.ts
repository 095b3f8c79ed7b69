import type * as promises from 'node:fs/promises'
import { mkdir, readdir, writeFile } from 'node:fs/promises'
import { describe, expect, it, vi, afterEach } from 'vitest'
import { describeError } from '../../../src/base/errors.js'
import { openDataDir } from '../../../src/node/host/data-dir.js'
import { requireRoom } from '../../../src/node/host/disk-room.js'
import { writePrivateFile } from '../../../src/node/host/private-file.js'
import { temporaryFolder } from '../folder.js'

/** Bytes that the disk still takes, of every file; undefined: the real disk. */
const disk = vi.hoisted(() => ({ left: undefined as number | undefined, code: 'ENOSPC' }))

/** A disk that makes any number of names, and takes so many bytes. */
vi.mock('node:fs/promises', async (original) => {
  const real = await original<typeof promises>()
  const take = (content: unknown): void => {
    if (disk.left === undefined) return
    disk.left -= Buffer.byteLength(content as string)
    if (disk.left < 0) throw Object.assign(new Error(`${disk.code}: write`), { code: disk.code })
  }
  const open = async (...args: Parameters<typeof promises.open>) => {
    const handle = await real.open(...args)
    const write = handle.writeFile.bind(handle)
    handle.writeFile = async (content, options) => {
      take(content)
      return write(content, options)
    }
    return handle
  }
  const put = async (...[file, content, options]: Parameters<typeof promises.writeFile>) => {
    // The name is there before the content is.
    await real.writeFile(file, '', options)
    take(content)
    return real.writeFile(file, content, { ...(options as object), flag: 'w' })
  }
  return { ...real, open, writeFile: put }
})
afterEach(() => {
  disk.left = undefined
  disk.code = 'ENOSPC'
})

const folder = await temporaryFolder()
const ROOT = folder.at('data')
/** A lock fits, an identity fits. */
const SOME = 4096

describe('a data directory on a full disk', () => {
  it.each([0, SOME])(
    'is refused at once, with the path and what to do, and left as it was: %d bytes left',
    async (left) => {
      await mkdir(ROOT, { recursive: true, mode: 0o700 })
      disk.left = left
      const error = await openDataDir(ROOT).catch((thrown: unknown) => thrown)
      expect(error).toMatchObject({ code: 'config/disk-full', facts: { dataDir: ROOT } })
      expect(describeError(error)).toMatch(
        /^dataDir: expected room .*data, got no space left .*make room.*--data-dir DIR/
      )
      disk.left = undefined
      expect(await readdir(ROOT)).toEqual([])
      await (await openDataDir(ROOT)).release()
    }
  )

  it('is refused in the same words where a quota is used up', async () => {
    Object.assign(disk, { left: SOME, code: 'EDQUOT' })
    await expect(openDataDir(ROOT)).rejects.toMatchObject({
      code: 'config/disk-full',
      message: expect.stringContaining("this user's share of the disk is used up")
    })
  })

  it('is refused where the checkpoints to come will not fit: how much they take, how much there is', async () => {
    await requireRoom(folder.root, 1, 'checkpoints')
    await expect(requireRoom(folder.root, 2 ** 62, 'checkpoints')).rejects.toMatchObject({
      code: 'config/disk-full',
      message: expect.stringMatching(
        /^dataDir: expected room of 4398046511104\.0 MB for checkpoints in .*, got [\d.]+ MB$/
      )
    })
  })
})

describe('a private file', () => {
  it('is written whole or not at all: what was there stays, and nothing beside it', async () => {
    await mkdir(folder.at('files'))
    await writePrivateFile(folder.at('files/a'), 'before')
    disk.left = 3
    await expect(writePrivateFile(folder.at('files/a'), 'afterwards')).rejects.toMatchObject({
      code: 'config/disk-full',
      message: `${folder.at('files/a')}: expected room to write it, got no space left on the device`
    })
    disk.left = undefined
    expect(await readdir(folder.at('files'))).toEqual(['a'])
  })

  it('names a path that cannot be one', async () => {
    await writeFile(folder.at('file'), '')
    await expect(writePrivateFile(folder.at('file/a'), 'x')).rejects.toMatchObject({
      code: 'config/unwritable-file',
      message: `${folder.at('file/a')}: expected a file this user can write, got a path through something that is no directory`
    })
  })
})
