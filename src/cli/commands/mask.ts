import { writeFile } from 'node:fs/promises'
import { sha256Hex } from '../../base/bytes.js'
import { PeertuneError } from '../../base/errors.js'
import { type PeftSpec, type SparseSpec, specsOf } from '../../base/peft-spec.js'
import { openDataset } from '../../data/source.js'
import type { ConfigFlags, Environment } from '../../node/config/config.js'
import { fisherMasks } from '../../node/trained/fisher.js'
import { printManifest } from '../../node/config/manifest.js'
import { openConfig } from '../../node/config/open-config.js'
import { writeMasks } from '../../peft/files/mask-file.js'
import { hubProgress } from '../hub-progress.js'
import type { Output } from '../output.js'

export interface MaskOptions extends ConfigFlags {
  readonly config: string
  readonly out: string
  readonly examples: string
}

/**
 * Writes the mask of a draft's sparse method by Fisher information on this peer's data, and prints the manifest that
 * names it. Throws `config/not-sparse` for a draft without such a method.
 */
export async function mask(options: MaskOptions, env: Environment, out: Output): Promise<void> {
  const { config, manifest } = await openConfig(options.config, options, { env, observer: hubProgress() })
  const sparse = specsOf(manifest.peft).find((spec): spec is SparseSpec => spec.method === 'sparse')
  if (sparse === undefined)
    throw new PeertuneError('config/not-sparse', `${config.federation}: no method of peft is sparse`, {
      hint: 'write a manifest with method: sparse and mask: random first; targets and density are taken from it'
    })
  const { task } = manifest
  const bytes = writeMasks(
    await fisherMasks({
      modelPath: config.model,
      task,
      sparse,
      examples: examplesOf(options.examples),
      openDataset: (description) => openDataset(config.data, task, description)
    })
  )
  await writeFile(options.out, bytes)
  const named: PeftSpec = { ...sparse, mask: 'fisher', maskSha256: sha256Hex(bytes) }
  const specs = specsOf(manifest.peft).map((spec) => (spec === sparse ? named : spec))
  out.text(printManifest({ ...manifest, peft: specs.length === 1 ? named : specs }))
}

function examplesOf(text: string): number {
  const examples = Number(text)
  if (Number.isInteger(examples) && examples > 0) return examples
  throw new PeertuneError('config/wrong-number', `--examples: expected a positive whole number, got ${text}`, {
    facts: { got: text }
  })
}
