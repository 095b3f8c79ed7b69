import {
  type ConfigFlags,
  type Environment,
  printConfig,
  resolveConfig,
  resolveYaml
} from '../../node/config/config.js'
import { parseYaml } from '../../node/host/yaml-file.js'
import type { Output } from '../output.js'

export interface ConfigOptions extends ConfigFlags {
  readonly config?: string
  readonly print?: boolean
}

/** What must be said in every file; the rest has defaults. */
const STARTING_POINT = `federation: federation.yaml
model: model.onnx
data:
  kind: glyphs
  classes: [A, B]
  samples: 200
`

/** Checks a configuration; prints it whole, every default included. Without a file: one to start from. */
export async function config(options: ConfigOptions, env: Environment, out: Output): Promise<void> {
  const resolved =
    options.config === undefined
      ? resolveYaml(parseYaml('peertune.yaml', STARTING_POINT), options, env)
      : await resolveConfig(options.config, options, env)
  if (options.print) out.text(printConfig(resolved))
  else out.line(`${options.config ?? 'the defaults'}: as it should be`)
}
