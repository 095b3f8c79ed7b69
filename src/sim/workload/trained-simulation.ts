import { dirname, resolve } from 'node:path'
import { PeertuneError } from '../../base/errors.js'
import { type FederationManifest, federationHash } from '../../base/federation.js'
import { isPrivate, specsOf } from '../../base/peft-spec.js'
import type { Dataset } from '../../data/batches/batch.js'
import { openDataset } from '../../data/source.js'
import type { DataSpec } from '../../data/spec.js'
import type { AdamWOptions } from '../../train/optimiser/adamw.js'
import type { LocalOptimiserParts } from '../../train/optimiser/local-optimiser.js'
import type { Trainer } from '../../train/trainer.js'
import * as f from '../../node/config/fields.js'
import type { SourceOptions } from '../../node/config/model-source.js'
import { type OpenConfig, openConfig } from '../../node/config/open-config.js'
import { maskOf } from '../../node/config/mask-of.js'
import { ownPlan } from '../../node/config/own-plan.js'
import { openLocalTrainer } from '../../node/model/open-trainer.js'
import { withCommonStart } from '../../node/model/start-from.js'
import { trainingTurns } from '../../node/model/training-turns.js'

/** Configurations of one trained simulation; each file is read. */
const MAX_CONFIGS = 1024

const schema = f.section({
  configs: f.list(f.path('a configuration'), { of: 'configurations', min: 1, max: MAX_CONFIGS, distinct: true })
})

/** A federation's model and data as its peers' configurations have them, for one process. */
export interface TrainedSimulation {
  readonly trainer: Trainer
  /** By peer. */
  readonly datasets: readonly Dataset[]
  readonly batchSize: number
  readonly optimiser: AdamWOptions
  readonly turns: LocalOptimiserParts['turns']
  close(): Promise<void>
}

export interface TrainedSimulationOptions {
  /** `{ configs: [...] }`: files of participants of one federation, relative to `file`. */
  readonly section: unknown
  /** The file the section stands in. */
  readonly file: string
  readonly origin: f.Origin
  readonly peers: number
  readonly sources: SourceOptions
}

/**
 * Opens what a federation trains, without a node. Peer i has configuration i mod n; of those who share one, each draws
 * glyphs of its own and speakers are dealt anew to all. Batch size and optimiser are the first configuration's. Throws
 * what reading configurations, models and data throws, and `config/bad-scenario` where they do not fit together.
 */
export async function openTrainedSimulation({
  section,
  file,
  origin,
  peers,
  sources
}: TrainedSimulationOptions): Promise<TrainedSimulation> {
  const { configs } = f.checkFields(schema, section, origin)
  const read: (OpenConfig & { readonly hash: string })[] = []
  // One behind the other: peers of one federation name one model, which is fetched once.
  for (const config of configs) {
    const opened = await openConfig(resolve(dirname(file), config), {}, sources)
    read.push({ ...opened, hash: federationHash(opened.manifest) })
  }
  const [first] = read
  if (first === undefined || new Set(read.map(({ hash }) => hash)).size > 1)
    throw new PeertuneError('config/bad-scenario', `${origin(['configs'])}: configurations of several federations`)
  const { config, manifest } = first
  requireAllShared(manifest)
  const { device, model: modelPath, threads, training } = config
  const spec = {
    modelPath,
    task: manifest.task,
    peft: ownPlan(manifest, config.slots),
    ...maskOf(config),
    device,
    threads
  }
  const trainer = await withCommonStart(await openLocalTrainer(spec), manifest, config)
  const open = (peer: number) => {
    const { data } = read[peer % read.length]!.config
    return openDataset(dataOf(data, { peer, peers, shared: peers > read.length }), manifest.task, trainer.description)
  }
  const { learningRate, weightDecay, beta1, beta2, epsilon, batchSize } = training
  return {
    trainer,
    datasets: await Promise.all(Array.from({ length: peers }, (_, peer) => open(peer))),
    batchSize,
    optimiser: { learningRate, weightDecay, beta1, beta2, epsilon },
    turns: trainingTurns(manifest.peft, trainer.description.schema, manifest.mixing.localSteps),
    close: () => trainer.close()
  }
}

/** In a trained simulation all peers have the same parameters and exchange all of them. */
function requireAllShared({ share, peft, peerRanks }: FederationManifest): void {
  if (share === undefined && peerRanks === undefined && !specsOf(peft).some(isPrivate)) return
  throw new PeertuneError('config/bad-scenario', 'training.configs: share, private and peerRanks cannot be simulated', {
    hint: 'npm run testnet runs such a federation with real nodes on this machine'
  })
}

/** `shared`: more peers than configurations. */
function dataOf(
  data: DataSpec,
  { peer, peers, shared }: { readonly peer: number; readonly peers: number; readonly shared: boolean }
): DataSpec {
  if (!shared) return data
  if (data.kind === 'glyphs') return { ...data, seed: `${data.seed}/${peer}` }
  if (data.kind === 'text' && data.split !== undefined) return { ...data, split: { ...data.split, peers, peer } }
  if (data.kind !== 'text' && 'split' in data && data.split !== undefined)
    return { ...data, split: { ...data.split, peers, peer } }
  throw new PeertuneError('config/bad-scenario', `training.configs: ${data.kind} data cannot be dealt to more peers`, {
    hint: 'name one configuration for each peer, with data of its own'
  })
}
