import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach } from 'vitest'
import { type NodeProcess, startNode } from '../../scripts/testnet/node-process.js'
import type { FederationManifest } from '../../src/base/federation.js'
import { systemClock } from '../../src/base/clock.js'
import { entryUrl } from '../../src/base/entry.js'
import { printManifest } from '../../src/node/config/manifest.js'
import { printYaml } from '../../src/node/host/yaml-file.js'
import type { Status } from '../../src/status/snapshot.js'

/** The model that ships. */
export const MODEL = fileURLToPath(new URL('../../models/glyphs/model.onnx', import.meta.url))
export const LETTERS = [...'ABCDEFGH']

export interface Peer {
  readonly name: string
  readonly dataDir: string
  readonly config: string
  readonly log: string
}

export interface PeerSettings {
  readonly classes: readonly string[]
  readonly samples: number
  readonly testSamples: number
  readonly steps: number
  readonly batchSize: number
  readonly networkKey?: string | undefined
}

/** A fresh folder for every test of a file, with real processes of the built command line on loopback. */
export interface DaemonFolder {
  pathOf(name: string): string
  writeFederation(manifest: FederationManifest): Promise<string>
  writePeer(name: string, federation: string, settings: PeerSettings): Promise<Peer>
  start(peer: Peer, bootstrap?: readonly string[]): Promise<NodeProcess>
}

export function daemonFolder(): DaemonFolder {
  let folder: string
  let nodes: NodeProcess[]

  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'peertune-e2e-'))
    nodes = []
  })
  afterEach(async () => {
    for (const node of nodes) if (node.alive()) node.kill()
    await Promise.all(nodes.map((node) => node.exited))
    await rm(folder, { recursive: true, force: true })
  })
  const pathOf = (name: string): string => join(folder, name)
  return {
    pathOf,
    async writeFederation(manifest) {
      const file = pathOf(`${manifest.name}.yaml`)
      await writeFile(file, printManifest(manifest))
      return file
    },
    async writePeer(name, federation, settings) {
      const peer = { name, dataDir: pathOf(name), config: pathOf(`${name}-config.yaml`), log: pathOf(`${name}.log`) }
      await writeFile(peer.config, printYaml(configOf(peer, federation, settings)))
      return peer
    },
    async start(peer, bootstrap = []) {
      const node = await startNode({
        index: nodes.length,
        cli: fileURLToPath(entryUrl('cli/main.js')),
        config: peer.config,
        bootstrap,
        logFile: peer.log,
        startTimeoutMs: 50_000
      })
      nodes.push(node)
      return node
    }
  }
}

function configOf({ name, dataDir }: Peer, federation: string, settings: PeerSettings) {
  const { classes, samples, testSamples, steps, batchSize, networkKey } = settings
  return {
    federation,
    model: MODEL,
    dataDir,
    label: name,
    data: { kind: 'glyphs', classes, samples, seed: name, testSamples },
    training: { steps, batchSize, learningRate: 0.003, seed: name },
    device: 'cpu',
    threads: 1,
    listen: ['/ip4/127.0.0.1/tcp/0'],
    checkpointEvery: 2,
    ...(networkKey === undefined ? {} : { networkKey })
  }
}

export const statusOf = async (node: NodeProcess): Promise<Status> =>
  (await (await fetch(new URL('status', node.statusUrl))).json()) as Status

/** The time-out of the test is the bound. */
export async function until(node: NodeProcess, condition: (status: Status) => boolean): Promise<Status> {
  for (;;) {
    const status = await statusOf(node)
    if (condition(status)) return status
    await systemClock.sleep(50)
  }
}
