import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { printManifest } from '../../src/node/config/manifest.js'
import { printYaml } from '../../src/node/host/yaml-file.js'
import type { TestnetOptions } from './options.js'
import type { Scenario } from './scenario.js'
import type { PeerFiles } from './testnet-peer.js'

export interface PeerFilesInit {
  readonly folder: string
  readonly scenario: Scenario
  readonly options: Pick<TestnetOptions, 'peers' | 'seed'>
  /** Exchanges between two checkpoints. */
  readonly checkpointEvery: number
}

const federationFile = ({ folder }: PeerFilesInit): string => join(folder, 'federation.yaml')

/** The federation file once, and for every peer the config a person would write. */
export async function writePeerFiles(init: PeerFilesInit): Promise<PeerFiles[]> {
  await writeFile(federationFile(init), printManifest(init.scenario.manifest))
  return Promise.all(
    Array.from({ length: init.options.peers }, async (_, peer) => {
      const of = (extension: string) => join(init.folder, `peer-${peer}${extension}`)
      const files = { config: of('.yaml'), dataDir: of(''), denyList: of('.deny'), log: of('.log') }
      await writeFile(files.denyList, '')
      await writeFile(files.config, printYaml(configOf(peer, files, init)))
      return files
    })
  )
}

function configOf(peer: number, { dataDir, denyList }: PeerFiles, init: PeerFilesInit) {
  const { scenario, options, checkpointEvery } = init
  const { steps, batchSize, learningRate, weightDecay } = scenario.training
  return {
    federation: federationFile(init),
    model: scenario.trainer.modelPath,
    dataDir,
    label: `peer ${peer}`,
    data: scenario.dataOfPeer(peer),
    training: { steps, batchSize, learningRate, weightDecay, seed: `${options.seed}/${peer}` },
    device: 'cpu',
    threads: 1,
    listen: ['/ip4/127.0.0.1/tcp/0'],
    denyList,
    http: { port: 0 },
    checkpointEvery
  }
}
