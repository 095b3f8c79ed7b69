import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { PeertuneError } from '../../base/errors.js'
import { hubOrigin } from '../../hub/reference.js'
import { licenseOf } from '../../node/model/base-license.js'
import { openDataset } from '../../data/source.js'
import { exportAdapter } from '../../node/trained/export-adapter.js'
import { checkModel } from '../../node/config/manifest.js'
import { writeMergedModel } from '../../node/trained/merged-model.js'
import { modelCard } from '../../node/trained/model-card.js'
import { maskOf } from '../../node/config/mask-of.js'
import { openLocalTrainer } from '../../node/model/open-trainer.js'
import { ownPlan } from '../../node/config/own-plan.js'
import { loadAdaptedModel } from '../../node/model/program.js'
import { readPartners } from '../../node/peers/partners.js'
import { type NodeRecord, readTrained, readNodeRecord } from '../../node/trained/trained.js'
import type { AdapterPart } from '../../peft/method/private.js'
import { evaluateDataset } from '../../train/evaluate.js'
import type { Output } from '../output.js'

export interface ExportOptions {
  readonly dataDir: string
  readonly out: string
  readonly merged?: string
  /** Of a shared and a private adapter, which. */
  readonly part?: string
  /** `--no-evaluation` makes it false. */
  readonly evaluation: boolean
  readonly json?: boolean
}

/** Writes what a node has learned as a folder for Hugging Face PEFT, with a model card, and merged where asked for. */
export async function exportTrained(options: ExportOptions, out: Output): Promise<void> {
  const record = await readNodeRecord(options.dataDir)
  const { config, manifest } = record
  const { task } = manifest
  const peft = ownPlan(manifest, config.slots)
  const spec = { modelPath: config.model, task, peft, ...maskOf(config) }
  await checkModel(manifest, config.model)
  const adapted = await loadAdaptedModel(spec)
  const { schema } = adapted.method
  const state = await readTrained(options.dataDir, manifest, schema)
  if (state === undefined)
    throw new PeertuneError('config/no-checkpoint', `${options.dataDir}: no checkpoint yet`, {
      facts: { dataDir: options.dataDir },
      hint: 'let the node train until its first checkpoint'
    })
  const { parameters } = state
  const isPeft = await exportAdapter(options.out, { ...spec, schema, parameters }, { part: partNamed(options.part) })
  if (options.merged !== undefined) await writeMergedModel(options.merged, adapted, parameters)
  const measured = options.evaluation ? await measure(record, parameters) : {}
  const facts = { manifest, parameters: schema.size, state, isPeft, ...measured }
  await writeFile(join(options.out, 'README.md'), modelCard({ ...facts, ...(await backgroundOf(record)) }))
  if (options.json) return out.json({ folder: options.out, step: state.step, parameters: schema.size, ...measured })
  out.line(options.out)
  if (options.merged !== undefined) out.line(options.merged)
}

/** What the card says of the base model, of this node's training and of the others. */
const backgroundOf = async ({ config }: NodeRecord) => ({
  training: config.training,
  partners: await readPartners(config.dataDir),
  origin: hubOrigin(config.model),
  license: await licenseOf(config.model)
})

const PARTS: readonly AdapterPart[] = ['all', 'shared', 'private']

function partNamed(name = 'all'): AdapterPart {
  const part = PARTS.find((one) => one === name)
  if (part !== undefined) return part
  throw new PeertuneError('config/wrong-value', `--part: expected one of ${PARTS.join(', ')}, got ${name}`)
}

async function measure({ config, manifest }: NodeRecord, parameters: Float32Array) {
  const { model: modelPath, device, threads } = config
  const { task } = manifest
  const peft = ownPlan(manifest, config.slots)
  const trainer = await openLocalTrainer({ modelPath, task, peft, ...maskOf(config), device, threads })
  try {
    const dataset = await openDataset(config.data, manifest.task, trainer.description)
    const evaluation = await evaluateDataset(trainer, parameters, dataset.evaluation(config.training.batchSize))
    return { samples: dataset.size, evaluation }
  } finally {
    await trainer.close()
  }
}
