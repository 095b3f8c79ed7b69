/**
 * Public exports. `createNode` runs a participant inside another program; the rest are the pieces it is made of, for
 * tools and experiments. Nobody inside the package imports this file.
 *
 * @example
 * ```ts
 * import { createNode, resolveConfig } from 'peertune'
 *
 * const { config } = await resolveConfig('a.yaml')
 * const node = await createNode(config)
 * await node.start()
 * console.log(node.status().addresses)
 * ```
 */
import './base/polyfill.js'

export { PeertuneError, describeError, isPeertuneError } from './base/errors.js'
export {
  type FederationManifest,
  federationHash,
  type MixingSpec,
  type PeftSpec,
  type TaskSpec
} from './base/federation.js'
export type { Logger } from './base/log.js'
export type { Verdict } from './base/verdict.js'
export type { Batch, BatchCursor, BatchStream, BatchTensor, Dataset } from './data/batches/batch.js'
export { openDataset } from './data/source.js'
export type { DataSpec } from './data/spec.js'
export { createNode } from './node/node.js'
export { resolveConfig } from './node/config/config.js'
export type { NodeConfig } from './node/config/schema.js'
export { readManifest } from './node/config/manifest.js'
export { openLocalTrainer } from './node/model/open-trainer.js'
export type { NodeDeps, PeertuneNode } from './node/types.js'
export { isReady, type PeerStatus, type Status } from './status/snapshot.js'
export { type ParameterSchema, viewOf } from './tensor/schema.js'
export { evaluateDataset } from './train/evaluate.js'
export type { EvaluationResult, StepResult, Trainer, TrainerDescription, TrainerSpec } from './train/trainer.js'
