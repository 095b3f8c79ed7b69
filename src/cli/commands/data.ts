import { openDataset } from '../../data/source.js'
import { summaryLines } from '../../data/splits/summary.js'
import { type ConfigFlags, type Environment, checkConfigFiles, resolveConfig } from '../../node/config/config.js'
import { checkModel, readManifest } from '../../node/config/manifest.js'
import { withLocalFiles } from '../../node/config/model-source.js'
import { readModel } from '../../onnx/file/read.js'
import { hubProgress } from '../hub-progress.js'
import type { Output } from '../output.js'

export interface DataOptions extends ConfigFlags {
  readonly config: string
  readonly json?: boolean
}

/** Opens a configuration's data as `start` would, and prints what this peer holds and, of a split, what each peer does. */
export async function data(options: DataOptions, env: Environment, out: Output): Promise<void> {
  const resolved = await resolveConfig(options.config, options, env)
  await checkConfigFiles(resolved)
  const config = await withLocalFiles(resolved.config, { env, observer: hubProgress() })
  const manifest = await readManifest(config.federation)
  await checkModel(manifest, config.model)
  const dataset = await openDataset(config.data, manifest.task, await readModel(config.model))
  try {
    const { summary } = dataset
    if (options.json) out.json(summary ?? { training: dataset.size })
    else if (summary !== undefined) for (const line of summaryLines(summary)) out.line(line)
  } finally {
    dataset.close?.()
  }
}
