import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { type NodeProcess, startNode } from '../../scripts/testnet/node-process.js'
import { sha256Hex } from '../../src/base/bytes.js'
import { systemClock } from '../../src/base/clock.js'
import { entryUrl } from '../../src/base/entry.js'
import { createManifest, printManifest } from '../../src/node/manifest.js'
import { modelSha256 } from '../../src/node/model-hash.js'
import { printYaml } from '../../src/node/yaml-file.js'
import type { Status } from '../../src/status/snapshot.js'

/** Real processes of the built command line, on loopback, with the model that ships. */
const MODEL = fileURLToPath(new URL('../../models/glyphs/model.onnx', import.meta.url))
const LETTERS = [...'ABCDEFGH']

let folder: string
let nodes: NodeProcess[]

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'peertune-broadcast-'))
  nodes = []
})

afterEach(async () => {
  for (const node of nodes) if (node.alive()) node.kill()
  await Promise.all(nodes.map((node) => node.exited))
  await rm(folder, { recursive: true, force: true })
})

async function writeFederation(): Promise<string> {
  const file = join(folder, 'letters.yaml')
  const manifest = createManifest(
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
  await writeFile(file, printManifest(manifest))
  return file
}

async function writePeer(name: string, federation: string, classes: readonly string[]): Promise<string> {
  const config = join(folder, `${name}-config.yaml`)
  await writeFile(
    config,
    printYaml({
      federation,
      model: MODEL,
      dataDir: join(folder, name),
      label: name,
      data: { kind: 'glyphs', classes, samples: 48, seed: name, testSamples: 40 },
      training: { steps: 24, batchSize: 8, learningRate: 0.003, seed: name },
      device: 'cpu',
      threads: 1,
      listen: ['/ip4/127.0.0.1/tcp/0'],
      checkpointEvery: 2
    })
  )
  return config
}

async function start(name: string, config: string, bootstrap: readonly string[] = []): Promise<NodeProcess> {
  const cli = fileURLToPath(entryUrl('cli/main.js'))
  const logFile = join(folder, `${name}.log`)
  const node = await startNode({ index: nodes.length, cli, config, bootstrap, logFile, startTimeoutMs: 50_000 })
  nodes.push(node)
  return node
}

const statusOf = async (node: NodeProcess): Promise<Status> =>
  (await (await fetch(new URL('status', node.statusUrl))).json()) as Status

async function until(node: NodeProcess, condition: (status: Status) => boolean): Promise<Status> {
  for (;;) {
    const status = await statusOf(node)
    if (condition(status)) return status
    await systemClock.sleep(50)
  }
}

/** Until all have counted the same; the time-out of the test is the bound. */
async function agreed(running: readonly NodeProcess[]): Promise<readonly Status[]> {
  for (;;) {
    const statuses = await Promise.all(running.map(statusOf))
    if (new Set(statuses.map(({ broadcast }) => broadcast?.replicaHash)).size === 1) return statuses
    await systemClock.sleep(100)
  }
}

const adapterHash = async (name: string): Promise<string> =>
  sha256Hex(await readFile(join(folder, name, 'adapter', 'adapter_model.safetensors')))

describe('daemons that broadcast', () => {
  it('end with one adapter, equal to the last bit, although one was killed on the way', async () => {
    const federation = await writeFederation()
    const names = ['a', 'b', 'c'] as const
    const configs = await Promise.all(
      names.map((name, i) => writePeer(name, federation, LETTERS.slice(2 * i, 2 * i + 4)))
    )
    const first = await start('a', configs[0]!)
    const second = await start('b', configs[1]!, first.multiaddrs)
    const third = await start('c', configs[2]!, first.multiaddrs)
    const before = await until(second, ({ broadcast }) => (broadcast?.published ?? 0) >= 2)
    second.kill()
    expect(await second.exited).toBe('SIGKILL')
    const again = await start('b', configs[1]!, first.multiaddrs)
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
    const same = async () => new Set(await Promise.all(names.map(adapterHash))).size === 1
    while (!(await same())) await systemClock.sleep(100)
  }, 240_000)
})
