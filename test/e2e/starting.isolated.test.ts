import { readFileSync } from 'node:fs'
import type * as promises from 'node:fs/promises'
import { readdir } from 'node:fs/promises'
import { createServer } from 'node:net'
import type { AddressInfo } from 'node:net'
import { afterEach, describe, expect, it, vi } from 'vitest'
import { type Logger, silentLogger } from '../../src/base/log.js'
import { resolveConfig } from '../../src/node/config/config.js'
import { dataDirPaths, openDataDir } from '../../src/node/host/data-dir.js'
import { createManifest } from '../../src/node/config/manifest.js'
import { modelSha256 } from '../../src/node/config/model-hash.js'
import { createNode } from '../../src/node/node.js'
import type { PeertuneNode } from '../../src/node/types.js'
import { daemonFolder, LETTERS, MODEL } from './daemon-folder.js'

/** Blocks that the disk has left; undefined: as many as it has. */
const disk = vi.hoisted(() => ({ free: undefined as number | undefined }))
vi.mock('node:fs/promises', async (original) => {
  const real = await original<typeof promises>()
  const statfs = async (path: string) => {
    const found = await real.statfs(path)
    return disk.free === undefined ? found : { ...found, bavail: disk.free }
  }
  return { ...real, statfs }
})
afterEach(() => {
  disk.free = undefined
})

const { writeFederation, writePeer } = daemonFolder()

const SETTINGS = { classes: LETTERS, samples: 16, testSamples: 16, steps: 100_000, batchSize: 4 }
const LOADED = 'the trainer is ready'

/** A logger that keeps what was said and tells of it at once. */
function listener(onMessage: (message: string) => void) {
  const said: string[] = []
  const hear = (_: unknown, message: string): void => {
    said.push(message)
    onMessage(message)
  }
  const log: Logger = { ...silentLogger, info: hear, warn: hear, error: hear }
  return { log, said }
}

/** That nobody listens at now. */
async function freePort(): Promise<number> {
  const server = createServer()
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  await new Promise((resolve) => server.close(resolve))
  return port
}

/** A node on the model that ships, not started yet; `sha256`: of the model that its federation wants. */
async function prepare(
  onMessage: (message: string, node: PeertuneNode) => void,
  { sha256, listen }: { readonly sha256?: string; readonly listen?: readonly string[] } = {}
) {
  const manifest = {
    peertune: 1 as const,
    name: 'starting',
    model: { sha256: sha256 ?? (await modelSha256(MODEL)) },
    task: { kind: 'image-classification' as const, labels: LETTERS },
    peft: { method: 'lora' as const, rank: 2, alpha: 4, targets: ['query'], head: ['classifier'], seed: 'e2e' },
    mixing: { localSteps: 2 }
  }
  const federation = await writeFederation(createManifest(manifest, () => 'manifest'))
  const { config: file, dataDir } = await writePeer('a', federation, SETTINGS)
  const port = await freePort()
  const { config } = await resolveConfig(file, { bootstrap: [], httpPort: String(port), listen })
  const { log, said } = listener((message) => onMessage(message, node))
  const node = await createNode(config, { log })
  return { node, said, port, dataDir, url: `http://127.0.0.1:${port}/` }
}

/** Nobody holds the directory or answers at the port, and nothing was done after the last word. */
async function expectEverythingClosed({ said, url, dataDir }: Awaited<ReturnType<typeof prepare>>): Promise<void> {
  expect(said.at(-1)).toBe('stopped')
  await expect(fetch(url)).rejects.toThrow()
  const held = await openDataDir(dataDir)
  await held.release()
  expect(await readdir(dataDir)).not.toContain('run.json')
}

describe('a node that starts', () => {
  it('is found by its data directory while the model loads, without addresses yet, and with them afterwards', async () => {
    const seen: unknown[] = []
    const runFile = (): unknown => JSON.parse(readFileSync(dataDirPaths(dataDir).run, 'utf8'))
    const { node, dataDir, url } = await prepare((message) => {
      if (message === LOADED) seen.push([runFile(), node.status().phase])
    })
    try {
      await node.start()
      expect(seen).toEqual([[{ pid: process.pid, url, addresses: [] }, 'starting']])
      const { addresses } = node.status()
      expect(addresses).toHaveLength(1)
      expect(runFile()).toEqual({ pid: process.pid, url, addresses })
    } finally {
      await node.stop()
    }
  })

  it('closes all that it had opened when the model is refused', async () => {
    const prepared = await prepare(() => undefined, { sha256: 'ab'.repeat(32) })
    await expect(prepared.node.start()).rejects.toMatchObject({ message: expect.stringContaining('abab') })
    await expectEverythingClosed(prepared)
    expect(await readdir(prepared.dataDir)).toEqual(['identity.key'])
  })
})

describe('a port that somebody takes while the model loads', () => {
  it('is named as it would have been before, and everything is closed', async () => {
    const port = await freePort()
    const thief = createServer()
    // Without a host it is taken within the call.
    const prepared = await prepare((message) => message === LOADED && void thief.listen(port), {
      listen: [`/ip4/127.0.0.1/tcp/${port}`]
    })
    await expect(prepared.node.start()).rejects.toMatchObject({
      code: 'config/port-in-use',
      message: `listen: expected a free port, got ${port} in /ip4/127.0.0.1/tcp/${port}, which is in use`
    })
    await expectEverythingClosed(prepared)
    await new Promise((closed) => thief.close(closed))
  })
})

describe('a start on a disk that its checkpoints will not fit on', () => {
  it('ends before it joins, with the path and what to do, and closes all that it had opened', async () => {
    const prepared = await prepare(() => undefined)
    disk.free = 0
    await expect(prepared.node.start()).rejects.toMatchObject({
      code: 'config/disk-full',
      message: expect.stringMatching(/dataDir: expected room of [\d.]+ MB for checkpoints in .*, got 0\.0 MB/)
    })
    await expectEverythingClosed(prepared)
    expect((await readdir(prepared.dataDir)).sort()).toEqual(['identity.key', 'node.json'])
  })
})

describe('a stop before the start is over', () => {
  it('while the status server is opening: no trainer is started, and nobody listens', async () => {
    const prepared = await prepare(() => undefined)
    const starting = prepared.node.start()
    await prepared.node.stop()
    await starting
    await expectEverythingClosed(prepared)
    expect(prepared.said).not.toContain(LOADED)
  })

  it('while the model loads: it does not join', async () => {
    let stopped: Promise<void> | undefined
    const prepared = await prepare((message, node) => {
      if (message === LOADED) stopped = node.stop()
    })
    await prepared.node.start()
    await stopped
    await expectEverythingClosed(prepared)
    expect(await readdir(prepared.dataDir)).toEqual(['identity.key'])
  })

  it('while it writes what it is: it does not join', async () => {
    const stopped = Promise.withResolvers<void>()
    const prepared = await prepare((message, node) => {
      // Behind what follows the message at once: the file is being written then.
      if (message === LOADED) setImmediate(() => void node.stop().then(stopped.resolve, stopped.reject))
    })
    await prepared.node.start()
    await stopped.promise
    await expectEverythingClosed(prepared)
    expect((await readdir(prepared.dataDir)).sort()).toEqual(['identity.key', 'node.json'])
  })

  it('before it has begun: nothing is opened', async () => {
    const prepared = await prepare(() => undefined)
    await prepared.node.stop()
    await prepared.node.start()
    await expectEverythingClosed(prepared)
  })
})
