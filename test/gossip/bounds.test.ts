import { readdirSync, readFileSync } from 'node:fs'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Key } from 'interface-datastore'
import { describe, expect, it } from 'vitest'
import { type Logger, silentLogger } from '../../src/base/log.js'
import { createBans } from '../../src/gossip/bans.js'
import { createFrameBudget } from '../../src/gossip/frame-budget.js'
import { readKnownPeers, writeKnownPeers } from '../../src/gossip/discovery/known-peers.js'
import { boundedDatastore } from '../../src/gossip/libp2p/datastore.js'
import { MAX_BANS, MAX_KNOWN_PEERS } from '../../src/gossip/limits.js'
import { announceTopic } from '../../src/gossip/topics.js'
import { createVirtualClock } from './virtual-clock.js'

/** Every installed copy of a package, nested ones included. */
function copies(name: string, folder = 'node_modules'): string[] {
  const found: string[] = []
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    if (!entry.isDirectory() || entry.name.startsWith('.')) continue
    const inner = entry.name.startsWith('@')
      ? readdirSync(join(folder, entry.name)).map((leaf) => `${entry.name}/${leaf}`)
      : [entry.name]
    for (const leaf of inner) {
      if (leaf === name) found.push(JSON.parse(readFileSync(join(folder, leaf, 'package.json'), 'utf8')).version)
      const nested = join(folder, leaf, 'node_modules')
      try {
        found.push(...copies(name, nested))
      } catch {
        // Has none.
      }
    }
  }
  return found
}

describe('the installed libp2p packages', () => {
  // A package of another major fails at run time without an error: no subscribers, no messages.
  it.each([
    ['@libp2p/interface', '2'],
    ['@multiformats/multiaddr', '12'],
    ['uint8arrays', '5'],
    ['uint8arraylist', '2']
  ])('contain one major version of %s', (name, major) => {
    const majors = new Set(copies(name).map((version) => version.split('.')[0]))
    expect([...majors]).toEqual([major])
  })
})

describe('bounds', () => {
  it('hold for frames under way, per peer and in all', () => {
    const budget = createFrameBudget({ perPeer: 100, total: 250 })
    expect([budget.reserve('a', 60), budget.reserve('a', 41), budget.reserve('a', 40)]).toEqual([true, false, true])
    expect([budget.reserve('b', 100), budget.reserve('c', 51), budget.reserve('c', 50)]).toEqual([true, false, true])
    expect(budget.reserved()).toBe(250)
    budget.release('a', 60)
    expect([budget.reserve('a', 61), budget.reserve('d', 60), budget.reserve('d', 1)]).toEqual([false, true, false])
    for (const [peer, bytes] of [
      ['a', 40],
      ['b', 100],
      ['c', 50],
      ['d', 60]
    ] as const)
      budget.release(peer, bytes)
    expect(budget.reserved()).toBe(0)
  })

  it('hold for bans, which end by themselves', async () => {
    const clock = createVirtualClock()
    const bans = createBans(clock)
    bans.add('a', 1_000)
    bans.add('a', 500)
    await clock.advance(900)
    expect([bans.remainingMs('a'), bans.remainingMs('b')]).toEqual([100, 0])
    await clock.advance(100)
    expect(bans.remainingMs('a')).toBe(0)
    for (let i = 0; i <= MAX_BANS; i++) bans.add(`p${i}`, 1_000)
    expect([bans.remainingMs('p0'), bans.remainingMs('p1')]).toEqual([0, 1_000])
    bans.deny(new Set(['p0', 'x']))
    bans.deny(new Set(['x', 'y']))
    expect(['p0', 'p1', 'x', 'y'].map(bans.remainingMs)).toEqual([0, 1_000, Infinity, Infinity])
  })

  it('hold for the records strangers can write', async () => {
    const store = boundedDatastore(3)
    for (let i = 0; i < 5; i++) await store.put(new Key(`/k/${i}`), Uint8Array.of(i))
    await store.put(new Key('/k/2'), Uint8Array.of(22))
    await store.put(new Key('/k/5'), Uint8Array.of(5))
    const kept: string[] = []
    for await (const { key, value } of store.query({ prefix: '/k' })) kept.push(`${key}=${value}`)
    expect(kept.sort()).toEqual(['/k/2=22', '/k/4=4', '/k/5=5'])
    await store.delete(new Key('/k/4'))
    await store.put(new Key('/k/6'), Uint8Array.of(6))
    expect(await store.has(new Key('/k/2'))).toBe(true)
  })

  it('hold for the remembered peers, whatever is in the file', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'peertune-known-'))
    const path = join(folder, 'peers.json')
    const warnings: string[] = []
    const log: Logger = { ...silentLogger, warn: (_facts, message) => warnings.push(message) }
    try {
      expect(await readKnownPeers(path, log)).toEqual([])
      expect(warnings).toEqual([])
      const many = Array.from({ length: MAX_KNOWN_PEERS + 3 }, (_, i) => ({
        peer: `p${i}`,
        addresses: ['/a', '/b', '/c', '/d', '/e']
      }))
      await writeKnownPeers(path, many, log)
      const back = await readKnownPeers(path, log)
      expect(back).toHaveLength(MAX_KNOWN_PEERS)
      expect(back[1]).toEqual({ peer: 'p1', addresses: ['/a', '/b', '/c', '/d'] })
      for (const broken of [
        '{',
        '[]',
        '{"peertune":2,"peers":[]}',
        `${await readFile(path, 'utf8')}${' '.repeat(70_000)}`
      ]) {
        await writeFile(path, broken)
        expect(await readKnownPeers(path, log)).toEqual([])
      }
      expect(warnings).toHaveLength(4)
      await writeFile(path, '{"peertune":1,"peers":[{"peer":7},{"peer":"ok","addresses":["/x"]},null]}')
      expect(await readKnownPeers(path, log)).toEqual([{ peer: 'ok', addresses: ['/x'] }])
      await writeKnownPeers(join(folder, 'no', 'such', 'folder'), [], log)
      expect(warnings).toHaveLength(5)
    } finally {
      await rm(folder, { recursive: true })
    }
  })
})

describe('topics', () => {
  it('carry the federation and a version', () => {
    expect(announceTopic('ab'.repeat(32))).toBe(`peertune/1/${'ab'.repeat(32)}/announce`)
  })
})
