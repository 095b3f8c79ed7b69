import { spawnSync } from 'node:child_process'
import { chmod, mkdir, readFile, readdir, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { dataDirPaths, openDataDir, readRunFile } from '../../../src/node/host/data-dir.js'
import { loadIdentity, readIdentity } from '../../../src/node/host/identity.js'
import { createNetworkKey } from '../../../src/gossip/libp2p/identity.js'
import { readNetworkKey } from '../../../src/node/host/network-key.js'
import { temporaryFolder } from '../folder.js'

const folder = await temporaryFolder()
const modeOf = async (path: string) => ((await stat(path)).mode & 0o777).toString(8)

/** A process id that was in use and is not any more. */
const deadPid = (): number => spawnSync(process.execPath, ['-e', '']).pid

describe('openDataDir', () => {
  it('makes the directory for its owner alone, parents too', async () => {
    const dir = await openDataDir(folder.at('new/inner'))
    expect(await modeOf(dir.root)).toBe('700')
    expect(await modeOf(dir.lock)).toBe('600')
    await dir.release()
    expect(await readdir(dir.root)).toEqual([])
  })

  it('is for one process at a time and names the other', async () => {
    const first = await openDataDir(folder.at('shared'))
    await expect(openDataDir(folder.at('shared'))).rejects.toMatchObject({
      code: 'config/data-dir-in-use',
      message: expect.stringContaining(`in use by process ${process.pid}`),
      facts: { pid: process.pid }
    })
    await first.release()
    await (await openDataDir(folder.at('shared'))).release()
  })

  it.each([
    ['a process that is gone', () => JSON.stringify({ pid: deadPid(), startedTicks: '1' })],
    ['a process whose id was given to another', () => JSON.stringify({ pid: process.pid, startedTicks: '1' })],
    ['nobody: an empty file', () => ''],
    ['nobody: half a file', () => '{"pid": 12']
  ])('takes over the lock of %s', async (_, lock) => {
    const paths = dataDirPaths(folder.at('stale'))
    await mkdir(paths.root, { recursive: true, mode: 0o700 })
    await writeFile(paths.lock, lock())
    const dir = await openDataDir(paths.root)
    expect(JSON.parse(await readFile(dir.lock, 'utf8'))).toMatchObject({ pid: process.pid })
    expect(await readdir(dir.root)).toEqual(['lock'])
    await dir.release()
  })

  it('does not take away a lock that is not its own', async () => {
    const dir = await openDataDir(folder.at('robbed'))
    await writeFile(dir.lock, JSON.stringify({ pid: 1, startedTicks: null }))
    await dir.release()
    expect(await readdir(dir.root)).toEqual(['lock'])
  })

  it('closes its own directory and leaves that of others as it is', async () => {
    await mkdir(folder.at('open'))
    await chmod(folder.at('open'), 0o755)
    await (await openDataDir(folder.at('open'))).release()
    expect(await modeOf(folder.at('open'))).toBe('700')

    await mkdir(folder.at('home'))
    await chmod(folder.at('home'), 0o755)
    await folder.write('home/letter.txt', 'x')
    await expect(openDataDir(folder.at('home'))).rejects.toMatchObject({
      code: 'config/data-dir-too-open',
      message: expect.stringContaining('expected a folder only its owner can enter (0700), got 0755')
    })
    expect(await modeOf(folder.at('home'))).toBe('755')
  })

  it('says so when the path is a file', async () => {
    const file = await folder.write('file', 'x')
    await expect(openDataDir(join(file, 'inner'))).rejects.toMatchObject({ code: 'config/data-dir-unusable' })
  })

  it('announces where the daemon is until it is released', async () => {
    const dir = await openDataDir(folder.at('announced'))
    const run = { pid: process.pid, url: 'http://127.0.0.1:7440/', addresses: ['/ip4/127.0.0.1/tcp/1'] }
    expect(await readRunFile(dir.root)).toBeUndefined()
    await dir.announce(run)
    expect(await readRunFile(dir.root)).toEqual(run)
    expect(await modeOf(dir.run)).toBe('600')
    await dir.release()
    expect(await readRunFile(dir.root)).toBeUndefined()
  })

  it.each(['', '[]', '{"url": 3}', '{"url": "no url"}'])('reads no announcement from %j', async (text) => {
    await mkdir(folder.at('odd'), { recursive: true })
    await writeFile(dataDirPaths(folder.at('odd')).run, text)
    expect(await readRunFile(folder.at('odd'))).toBeUndefined()
  })
})

describe('loadIdentity', () => {
  it('makes a key once and stays the same peer', async () => {
    const file = folder.at('identity.key')
    expect(await readIdentity(file)).toBeUndefined()
    const made = await loadIdentity(file)
    expect(made.peerId).toMatch(/^12D3KooW/)
    expect(await modeOf(file)).toBe('600')
    expect(await loadIdentity(file)).toMatchObject({ peerId: made.peerId })
    expect((await loadIdentity(folder.at('other.key'))).peerId).not.toBe(made.peerId)
  })

  it('never replaces a damaged key', async () => {
    const file = await folder.write('damaged.key', 'not a key')
    await expect(loadIdentity(file)).rejects.toMatchObject({
      code: 'config/bad-identity',
      message: `${file}: expected an Ed25519 private key in libp2p's form, got 9 other bytes`
    })
    expect(await readFile(file, 'utf8')).toBe('not a key')
  })
})

describe('readNetworkKey', () => {
  it('reads the key it is given, with any line ends', async () => {
    const key = createNetworkKey()
    expect(await readNetworkKey(await folder.write('net.key', key))).toBe(key)
    await readNetworkKey(await folder.write('crlf.key', `${key.replaceAll('\n', '\r\n')}\r\n`))
  })

  it.each(['', 'hello', '/key/swarm/psk/1.0.0/\n/base16/\nabc', 'x'.repeat(5000)])('refuses %j', async (text) => {
    const file = await folder.write('bad.key', text)
    await expect(readNetworkKey(file)).rejects.toMatchObject({
      code: text.length > 1000 ? 'config/too-large' : 'config/bad-network-key',
      message: expect.stringContaining(file)
    })
  })
})
