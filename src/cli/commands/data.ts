import { openDataset } from '../../data/source.js'
import { summaryLines } from '../../data/splits/summary.js'
import type { ConfigFlags, Environment } from '../../node/config/config.js'
import { openConfig } from '../../node/config/open-config.js'
import { readModel } from '../../onnx/file/read.js'
import { hubProgress } from '../hub-progress.js'
import type { Output } from '../output.js'

export interface DataOptions extends ConfigFlags {
  readonly config: string
  readonly json?: boolean
}

/** Opens a configuration's data as `start` would, and prints what this peer holds and, of a split, what each peer does. */
export async function data(options: DataOptions, env: Environment, out: Output): Promise<void> {
  const { config, manifest } = await openConfig(options.config, options, { env, observer: hubProgress() })
  const dataset = await openDataset(config.data, manifest.task, await readModel(config.model))
  try {
    const { summary } = dataset
    if (options.json) out.json(summary ?? { training: dataset.size })
    else if (summary !== undefined) for (const line of summaryLines(summary)) out.line(line)
  } finally {
    dataset.close?.()
  }
}
