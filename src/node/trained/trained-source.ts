import { PeertuneError } from '../../base/errors.js'
import type { FederationManifest, TaskSpec } from '../../base/federation.js'
import type { PeftPlan } from '../../base/peft-spec.js'
import { type AdapterFolder, parametersFrom, readAdapterFolder } from '../../peft/files/adapter-format.js'
import type { ConfigFlags } from '../config/config.js'
import type { NodeConfig } from '../config/schema.js'
import { checkModel, createManifest } from '../config/manifest.js'
import { maskOf } from '../config/mask-of.js'
import { openAdapterPath, openModelFile, type SourceOptions } from '../config/model-source.js'
import { openConfig } from '../config/open-config.js'
import { type AdaptedModel, type LoadOptions, loadAdaptedModel } from '../model/program.js'
import { readNodeRecord, readTrained } from './trained.js'

/** Where a trained model comes from: a base model, a node's configuration, or a node's data directory. */
export interface TrainedFlags extends ConfigFlags {
  readonly model?: string
  readonly config?: string
  /** An adapter folder, in the place of what the node has learned. */
  readonly adapter?: string
}

export interface TrainedModel {
  readonly adapted: AdaptedModel
  readonly parameters: Float32Array
  readonly modelPath: string
  readonly task: TaskSpec
  /** Which parameters these are, for people. */
  readonly of: string
  /** The node's, where there is one. */
  readonly config: NodeConfig | undefined
}

interface Source {
  readonly modelPath: string
  readonly task: TaskSpec
  readonly plan: PeftPlan
  readonly config?: NodeConfig
  readonly manifest?: FederationManifest
}

/**
 * A model with what was learned in it: of an adapter folder, of a node's newest checkpoint, or nothing yet.
 * `taskOf` says what a base model alone, without a federation, is for. Throws `config/*`, `onnx/*` and `hub/*`.
 */
export async function openTrained(
  flags: TrainedFlags,
  taskOf: (modelPath: string) => Promise<TaskSpec>,
  options: SourceOptions & LoadOptions
): Promise<TrainedModel> {
  const folder =
    flags.adapter === undefined ? undefined : await readAdapterFolder(await openAdapterPath(flags.adapter, options))
  const source = await sourceOf(flags, taskOf, options)
  const { modelPath, task, config, manifest } = source
  const peft = folder === undefined ? source.plan : checkedPlan(folder.plan, source)
  const masks = config === undefined ? {} : maskOf(config)
  const adapted = await loadAdaptedModel({ modelPath, task, peft, ...masks }, options)
  const { of, parameters } = await parametersOf(adapted, { folder, config, manifest })
  return { adapted, parameters, modelPath, task, of, config }
}

async function sourceOf(
  flags: TrainedFlags,
  taskOf: (modelPath: string) => Promise<TaskSpec>,
  options: SourceOptions
): Promise<Source> {
  if (flags.model !== undefined) {
    const modelPath = await openModelFile(flags.model, options)
    return { modelPath, task: await taskOf(modelPath), plan: [] }
  }
  const { config, manifest } = await nodeOf(flags, options)
  return { modelPath: config.model, task: manifest.task, plan: manifest.peft, config, manifest }
}

async function nodeOf({ config: file, ...flags }: TrainedFlags, options: SourceOptions) {
  if (file !== undefined) return openConfig(file, flags, options)
  if (flags.dataDir === undefined) throw noModel()
  const { config, manifest } = await readNodeRecord(flags.dataDir)
  await checkModel(manifest, config.model)
  return { config, manifest }
}

const noModel = () =>
  new PeertuneError('config/missing-field', 'which model? Expected one of --model, --config and --data-dir')

/** Nobody's manifest, for the check of a plan alone. */
const STRANGER = { peertune: 1, name: 'adapter', model: { sha256: '0'.repeat(64) } } as const

/** The plan of a folder is somebody else's file: checked as a manifest's would be. */
function checkedPlan(plan: PeftPlan, { manifest, task }: Source): PeftPlan {
  const parts = { ...(manifest ?? { ...STRANGER, task }), peft: plan }
  return createManifest(parts, (path) => `--adapter: ${path.join('.')}`).peft
}

interface Found {
  readonly folder: AdapterFolder | undefined
  readonly config: NodeConfig | undefined
  readonly manifest: FederationManifest | undefined
}

async function parametersOf(
  { method: { schema, frozen, initial } }: AdaptedModel,
  { folder, config, manifest }: Found
) {
  if (folder !== undefined) return { of: 'the adapter', parameters: parametersFrom(folder.tensors, schema, frozen) }
  if (config === undefined || manifest === undefined) return { of: 'the base model', parameters: initial }
  const state = await readTrained(config.dataDir, manifest, schema)
  if (state !== undefined) return { of: `the checkpoint of step ${state.step}`, parameters: state.parameters }
  if (config.startFrom === null) return { of: 'the start', parameters: initial }
  const { tensors } = await readAdapterFolder(config.startFrom)
  return { of: 'the start', parameters: parametersFrom(tensors, schema) }
}
