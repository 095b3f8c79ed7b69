import type { FederationManifest } from '../base/federation.js'
import type { Logger } from '../base/log.js'
import type { Dataset } from '../data/batches/batch.js'
import type { ModelInputs } from '../data/batches/collate.js'
import { inTenths, type ReadProgress } from '../data/formats/progress.js'
import { openDataset } from '../data/source.js'
import type { Status } from '../status/snapshot.js'
import type { NodeConfig } from './config/schema.js'

export interface NodeDataParts {
  readonly config: Pick<NodeConfig, 'data'>
  readonly manifest: Pick<FederationManifest, 'task'>
  readonly log: Logger
}

/** A node's own data: how far it is read goes to the status and, by tenths, to the log; then what there is. */
export interface NodeData {
  /** Throws what the data source throws, and the signal's reason. */
  open(model: ModelInputs, signal: AbortSignal): Promise<Dataset>
  state(): Status['data']
  close(): void
}

export function createNodeData({ config: { data }, manifest: { task }, log }: NodeDataParts): NodeData {
  const { kind } = data
  let state: Status['data']
  let dataset: Dataset | undefined
  const tell = inTenths(({ file, bytes, totalBytes, rows }: ReadProgress) =>
    log.info({ file, percent: Math.round((100 * bytes) / totalBytes), rows }, 'reading the data')
  )
  return {
    state: () => state,
    close: () => dataset?.close?.(),
    async open(model, signal) {
      dataset = await openDataset(data, task, model, {
        signal,
        onProgress(progress) {
          state = { kind, rows: progress.rows, read: progress.bytes / Math.max(1, progress.totalBytes) }
          tell(progress)
        }
      })
      const { training = dataset.size, heldOut = 0, skipped = 0, firstSkipped } = dataset.summary ?? {}
      state = { kind, rows: training + heldOut, read: 1, training, heldOut, skipped }
      if (skipped > 0) log.warn({ skipped, first: firstSkipped }, 'left broken rows out')
      log.info({ kind, training, heldOut, skipped }, 'the data is open')
      return dataset
    }
  }
}
