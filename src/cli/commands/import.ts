import { sha256Hex } from '../../base/bytes.js'
import { createManifest, printManifest } from '../../node/config/manifest.js'
import { modelSha256 } from '../../node/config/model-hash.js'
import { loadAdaptedModel } from '../../node/model/program.js'
import { parametersFrom, readAdapterFolder } from '../../peft/files/adapter-format.js'
import type { Output } from '../output.js'

export interface ImportOptions {
  readonly model: string
  readonly name: string
  readonly task: string
  readonly labels?: readonly string[]
}

/**
 * Prints a manifest whose peers start from an adapter folder that PEFT (or `peertune export`) wrote: method, rank and
 * modules are the adapter's, and its SHA-256 is part of the agreement. Throws `config/wrong-adapter` when the adapter was
 * made for another base.
 */
export async function importAdapter(folder: string, options: ImportOptions, out: Output): Promise<void> {
  const { plan, tensors, bytes } = await readAdapterFolder(folder)
  const parts = {
    peertune: 1,
    name: options.name,
    model: { sha256: await modelSha256(options.model) },
    task: { kind: options.task, ...(options.labels === undefined ? {} : { labels: options.labels }) },
    peft: plan,
    startFrom: { sha256: sha256Hex(bytes) }
  }
  const manifest = createManifest(parts, (path) => `--${path.at(-1)}`)
  const { method } = await loadAdaptedModel({ modelPath: options.model, task: manifest.task, peft: manifest.peft })
  parametersFrom(tensors, method.schema)
  out.text(printManifest(manifest))
}
