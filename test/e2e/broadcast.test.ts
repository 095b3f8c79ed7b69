import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import type { NodeProcess } from '../../scripts/testnet/node-process.js'
import { sha256Hex } from '../../src/base/bytes.js'
import { systemClock } from '../../src/base/clock.js'
import { createManifest } from '../../src/node/config/manifest.js'
import { modelSha256 } from '../../src/node/config/model-hash.js'
import type { Status } from '../../src/status/snapshot.js'
import { daemonFolder, LETTERS, MODEL, type Peer, statusOf, until } from './daemon-folder.js'

const { start, writeFederation, writePeer } = daemonFolder()

const manifestOf = async () =>
  createManifest(
    {
      peertune: 1,
      name: 'letters',
      model: { sha256: await modelSha256(MODEL) },
      task: { kind: 'image-classification', labels: LETTERS },
      peft: { method: 'lora', rank: 4, alpha: 8, targets: ['query', 'value'], head: ['classifier'], seed: 'e2e' },
      mixing: { mode: 'broadcast', localSteps: 3, settleExchanges: 2, broadcast: { fraction: 0.1, outerStep: 1 } }
    },
    () => 'manifest'
  )

const SIZES = { samples: 48, testSamples: 40, steps: 24, batchSize: 8 }

/** Until all have counted the same; the time-out of the test is the bound. */
async function agreed(running: readonly NodeProcess[]): Promise<readonly Status[]> {
  for (;;) {
    const statuses = await Promise.all(running.map(statusOf))
    if (new Set(statuses.map(({ broadcast }) => broadcast?.replicaHash)).size === 1) return statuses
    await systemClock.sleep(100)
  }
}

const adapterHash = async ({ dataDir }: Peer): Promise<string> =>
  sha256Hex(await readFile(join(dataDir, 'adapter', 'adapter_model.safetensors')))

describe('daemons that broadcast', () => {
  it('end with one adapter, equal to the last bit, although one was killed on the way', async () => {
    const federation = await writeFederation(await manifestOf())
    const peers = await Promise.all(
      ['a', 'b', 'c'].map((name, i) =>
        writePeer(name, federation, { ...SIZES, classes: LETTERS.slice(2 * i, 2 * i + 4) })
      )
    )
    const first = await start(peers[0]!)
    const second = await start(peers[1]!, first.multiaddrs)
    const third = await start(peers[2]!, first.multiaddrs)
    const before = await until(second, ({ broadcast }) => (broadcast?.published ?? 0) >= 2)
    second.kill()
    expect(await second.exited).toBe('SIGKILL')
    const again = await start(peers[1]!, first.multiaddrs)
    const running = [first, again, third]
    await Promise.all(running.map((node) => until(node, ({ phase }) => phase === 'done')))
    const ends = await agreed(running)
    const told = ends.map(({ broadcast }) => broadcast!)
    for (const one of told) {
      expect(one.replicaHash).toBe(told[0]!.replicaHash)
      expect(one.authors.map(({ author, sequence }) => `${author} ${sequence}`).toSorted()).toEqual(
        told[0]!.authors.map(({ author, sequence }) => `${author} ${sequence}`).toSorted()
      )
      expect(one.caught).toBe(0)
      expect(one.waiting).toBe(0)
    }
    // Nobody's number was used twice, and what the killed one had told was kept by it and the others.
    const killed = told[0]!.authors.find(({ author }) => author === before.peerId)
    expect(killed!.sequence).toBeGreaterThanOrEqual(8)
    // Whoever was done before the killed one had told its last writes the adapter once more.
    const same = async () => new Set(await Promise.all(peers.map(adapterHash))).size === 1
    while (!(await same())) await systemClock.sleep(100)
  }, 240_000)
})
