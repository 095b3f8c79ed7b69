import type { Environment } from '../node/config/config.js'
import { openAdapterPath, openModelFile } from '../node/config/model-source.js'
import { hubProgress } from './hub-progress.js'

/** Options with the model that a flag names as a file of this machine, downloaded where it is one of the hub. */
export async function withLocalModel<Options extends { readonly model?: string }>(
  options: Options,
  env: Environment
): Promise<Options> {
  return options.model === undefined ? options : { ...options, model: await localModel(options.model, env) }
}

export const localAdapter = (reference: string, env: Environment): Promise<string> =>
  openAdapterPath(reference, { env, observer: hubProgress() })

export const localModel = (reference: string, env: Environment): Promise<string> =>
  openModelFile(reference, { env, observer: hubProgress() })
