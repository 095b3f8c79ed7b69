import { execFileSync } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import { entryUrl } from '../../src/base/entry.js'
import { silentLogger } from '../../src/base/log.js'
import { createFileStore } from '../../src/checkpoint/file-store.js'
import { dataDirPaths } from '../../src/node/host/data-dir.js'
import { readManifest } from '../../src/node/config/manifest.js'
import { modelSha256 } from '../../src/node/config/model-hash.js'
import type { Status } from '../../src/status/snapshot.js'
import { daemonFolder, LETTERS, MODEL, type Peer, type PeerSettings, statusOf, until } from './daemon-folder.js'

const daemons = daemonFolder()
const { pathOf, start } = daemons

const writeFederation = async (name = 'letters'): Promise<string> =>
  daemons.writeFederation({
    peertune: 1,
    name,
    model: { sha256: await modelSha256(MODEL) },
    task: { kind: 'image-classification', labels: LETTERS },
    peft: { method: 'lora', rank: 4, alpha: 8, targets: ['query', 'value'], head: ['classifier'], seed: 'e2e' },
    mixing: { localSteps: 4, codec: 'int8', gamma: 1, settleExchanges: 3, isolationFactor: 10 }
  })

const SETTINGS: PeerSettings = { classes: LETTERS, samples: 96, testSamples: 80, steps: 100_000, batchSize: 16 }

const writePeer = (name: string, federation: string, settings: Partial<PeerSettings> = {}): Promise<Peer> =>
  daemons.writePeer(name, federation, { ...SETTINGS, ...settings })

const checkpointOf = (peer: Peer, { federation, model }: Status) =>
  createFileStore({ directory: dataDirPaths(peer.dataDir).checkpoints, log: silentLogger }).load({
    federationHash: federation.hash,
    schemaHash: model.schemaHash
  })

/** The step that the node said it goes on from, after its last start. */
async function resumedAt(peer: Peer): Promise<number | undefined> {
  const lines = (await readFile(peer.log, 'utf8')).split('\n').filter((line) => line.includes('last checkpoint'))
  const last = lines.at(-1)
  return last === undefined ? undefined : (JSON.parse(last) as { step: number }).step
}

describe('daemons', () => {
  it('meet through one address, mix, survive kill -9 and Ctrl-C, and go on where they were', async () => {
    const federation = await writeFederation()
    const [a, b] = await Promise.all([
      writePeer('a', federation, { classes: LETTERS.slice(0, 5) }),
      writePeer('b', federation, { classes: LETTERS.slice(3) })
    ])
    const first = await start(a)
    const second = await start(b, first.multiaddrs)
    const met = await until(second, (status) => status.exchanges.completed >= 4 && status.checkpoint !== undefined)
    const firstStatus = await statusOf(first)
    expect(met.peers).toMatchObject([{ peerId: firstStatus.peerId, label: 'a', connected: true, sameFederation: true }])
    expect(met.bytes.sent).toBeGreaterThan(1000)

    second.kill()
    expect(await second.exited).toBe('SIGKILL')
    const left = await checkpointOf(b, met)
    expect(left!.step).toBeGreaterThan(0)
    const again = await start(b, first.multiaddrs)
    const resumed = await until(again, (status) => status.phase === 'training')
    expect(resumed.peerId).toBe(met.peerId)
    expect(await resumedAt(b)).toBe(left!.step)
    expect(resumed.steps.done).toBeGreaterThanOrEqual(left!.step)
    await until(again, (status) => status.exchanges.completed > left!.exchanges)

    process.kill(again.pid, 'SIGINT')
    expect(await again.exited).toBe('exit code 130')
    const graceful = await checkpointOf(b, met)
    expect(graceful!.step).toBeGreaterThan(left!.step)
    const third = await start(b, first.multiaddrs)
    await until(third, (status) => status.phase === 'training')
    expect(await resumedAt(b)).toBe(graceful!.step)
  })

  it('keeps the node up when its trainer is killed, and trains on', async () => {
    const node = await start(await writePeer('a', await writeFederation()))
    const before = await until(node, (status) => status.steps.done >= 5)
    process.kill(before.trainer.pid!, 'SIGKILL')
    const after = await until(node, (status) => status.steps.done >= before.steps.done + 10)
    expect(after.trainer.restarts).toBe(1)
    expect(after.trainer.pid).not.toBe(before.trainer.pid)
    expect(node.alive()).toBe(true)
  })

  it('says in words why it meets nobody', async () => {
    const federation = await writeFederation()
    const key = pathOf('network.key')
    const otherKey = pathOf('other.key')
    for (const file of [key, otherKey])
      execFileSync(process.execPath, [fileURLToPath(entryUrl('cli/main.js')), 'key', file])
    const closed = await start(await writePeer('closed', federation, { networkKey: key }))
    const stranger = await start(await writePeer('stranger', federation, { networkKey: otherKey }), closed.multiaddrs)
    const locked = await until(
      stranger,
      (status) => status.bootstrap.some(({ attempts }) => attempts >= 1) && status.bootstrap[0]!.sentence !== 'dialling'
    )
    expect(locked.bootstrap[0]!.sentence).toMatch(/network key/i)

    const other = await start(
      await writePeer('other', await writeFederation('other'), { networkKey: key }),
      closed.multiaddrs
    )
    const apart = await until(other, (status) => status.peers.some((peer) => peer.sameFederation !== undefined))
    expect(apart.peers).toMatchObject([{ sameFederation: false }])
    await closed.stop()
    const gone = await start(await writePeer('late', federation, { networkKey: key }), closed.multiaddrs)
    const refused = await until(gone, (status) => status.bootstrap[0]!.sentence !== 'dialling')
    expect(refused.bootstrap[0]!.sentence).toMatch(/nothing|refused|listen/i)
  })

  it('answers for its status on every page', async () => {
    const node = await start(await writePeer('a', await writeFederation(), { steps: 3 }))
    const status = await until(node, ({ steps }) => steps.done === 3)
    expect(status).toMatchObject({
      task: 'image-classification',
      device: { used: 'cpu' },
      steps: { done: 3, total: 3 }
    })
    expect((await readManifest(pathOf('letters.yaml'))).name).toBe('letters')
    const page = async (path: string) => fetch(new URL(path, node.statusUrl))
    expect((await page('healthz')).status).toBe(200)
    expect(await (await page('metrics')).text()).toMatch(/^peertune_\S* \S+$/m)
    expect(await (await page('')).text()).toContain(status.peerId)
  })
})
