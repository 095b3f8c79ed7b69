import type { FederationManifest } from '../../base/federation.js'
import type { PeftPlan } from '../../base/peft-spec.js'
import { openDataset } from '../../data/source.js'
import type { ConfigFlags, Environment } from '../../node/config/config.js'
import type { NodeConfig } from '../../node/config/schema.js'
import { createManifest } from '../../node/config/manifest.js'
import { maskOf } from '../../node/config/mask-of.js'
import { openConfig } from '../../node/config/open-config.js'
import { openLocalTrainer } from '../../node/model/open-trainer.js'
import { ownPlan } from '../../node/config/own-plan.js'
import { withCommonStart } from '../../node/model/start-from.js'
import { readTrained } from '../../node/trained/trained.js'
import { type AdapterFolder, parametersFrom, readAdapterFolder } from '../../peft/files/adapter-format.js'
import { type DatasetEvaluation, evaluateDataset } from '../../train/evaluate.js'
import type { Trainer } from '../../train/trainer.js'
import { hubProgress } from '../hub-progress.js'
import { localAdapter } from '../local-model.js'
import type { Output } from '../output.js'

export interface EvalOptions extends ConfigFlags {
  readonly config: string
  readonly adapter?: string
  readonly json?: boolean
}

/** Loss and accuracy on a configuration's held-out data: of an adapter folder, of the node's checkpoint, or of the start. */
export async function evaluate(options: EvalOptions, env: Environment, out: Output): Promise<void> {
  const { config, manifest } = await openConfig(options.config, options, { env, observer: hubProgress() })
  const folder =
    options.adapter === undefined ? undefined : await readAdapterFolder(await localAdapter(options.adapter, env))
  const trainer = await open(config, manifest, planOf(config, manifest, folder))
  try {
    const { of, parameters } = await parametersOf(trainer, { config, manifest, folder })
    const dataset = await openDataset(config.data, manifest.task, trainer.description)
    const result = await evaluateDataset(trainer, parameters, dataset.evaluation(config.training.batchSize))
    if (options.json) return out.json({ of, ...result })
    out.line(`${of}: ${measuresOf(result)}`)
    out.line(`${result.count} labels of ${config.data.kind} data`)
  } finally {
    await trainer.close()
  }
}

const measuresOf = ({ loss, accuracy, correlation }: DatasetEvaluation): string =>
  correlation === undefined
    ? `loss ${loss.toFixed(4)} nats, accuracy ${(100 * accuracy).toFixed(2)} %`
    : `mean squared error ${loss.toFixed(4)}, correlation ${correlation.toFixed(4)}`

const planOf = (config: NodeConfig, manifest: FederationManifest, folder: AdapterFolder | undefined): PeftPlan =>
  folder === undefined ? ownPlan(manifest, config.slots) : checkedPlan(folder, manifest)

/** The plan of a folder is somebody else's file: checked as a manifest's would be. */
const checkedPlan = ({ plan }: AdapterFolder, manifest: FederationManifest): PeftPlan =>
  createManifest({ ...manifest, peft: plan }, (path) => `--adapter: ${path.join('.')}`).peft

const open = (config: NodeConfig, { task }: FederationManifest, peft: PeftPlan) => {
  const { model: modelPath, device, threads } = config
  return openLocalTrainer({ modelPath, task, peft, ...maskOf(config), device, threads })
}

interface Sources {
  readonly config: NodeConfig
  readonly manifest: FederationManifest
  readonly folder: AdapterFolder | undefined
}

async function parametersOf(trainer: Trainer, { config, manifest, folder }: Sources) {
  const { schema } = trainer.description
  if (folder !== undefined) return { of: 'the adapter', parameters: parametersFrom(folder.tensors, schema) }
  const state = await readTrained(config.dataDir, manifest, schema)
  if (state !== undefined) return { of: `the checkpoint of step ${state.step}`, parameters: state.parameters }
  const started = await withCommonStart(trainer, manifest, config)
  return { of: 'the start', parameters: started.description.initial }
}
