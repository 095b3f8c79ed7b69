import type { FederationManifest } from '../../base/federation.js'
import { type ConfigFlags, checkConfigFiles, resolveConfig } from './config.js'
import { checkModel, readManifest } from './manifest.js'
import { type SourceOptions, withLocalFiles } from './model-source.js'
import type { NodeConfig } from './schema.js'

/** A node's configuration as a node would start with it, and the federation it is for. */
export interface OpenConfig {
  /** Models, adapters and tokenizers are files of this machine. */
  readonly config: NodeConfig
  readonly manifest: FederationManifest
}

/**
 * All that a configuration names, there and fitting together: whatever works on one, without a node, reads it here, so
 * that each takes what `peertune start` takes. Throws `config/*`, `hub/*` and `onnx/*`.
 */
export async function openConfig(file: string, flags: ConfigFlags, sources: SourceOptions): Promise<OpenConfig> {
  const resolved = await resolveConfig(file, flags, sources.env)
  await checkConfigFiles(resolved)
  const manifest = await readManifest(resolved.config.federation)
  const config = await withLocalFiles(resolved.config, sources)
  await checkModel(manifest, config.model)
  return { config, manifest }
}
