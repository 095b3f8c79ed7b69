import type { TrainerSpec } from '../../train/trainer.js'
import type { NodeConfig } from './schema.js'

/** The mask file of a configuration, as trainers and exports take it; records of older nodes have no such field. */
export const maskOf = ({ maskFile }: Pick<NodeConfig, 'maskFile'>): Pick<TrainerSpec, 'maskFile'> =>
  typeof maskFile === 'string' ? { maskFile } : {}
