import { availableParallelism } from 'node:os'
import { dirname, isAbsolute, join, resolve } from 'node:path'
import { homeFolder } from '../../base/home.js'
import { type Origin, checkFields, valueAt } from './fields.js'
import { checkFiles, resolvePaths } from './paths.js'
import { type NodeConfig, configSchema } from './schema.js'
import { type FieldPath, type YamlFile, printYaml, readYamlFile } from '../host/yaml-file.js'

/** Command-line flags that override the file; as typed, so that a wrong one can be shown. */
export interface ConfigFlags {
  readonly bootstrap?: readonly string[] | undefined
  readonly listen?: readonly string[] | undefined
  readonly httpPort?: string | undefined
  readonly dataDir?: string | undefined
  readonly logLevel?: string | undefined
}

export type Environment = Readonly<Record<string, string | undefined>>

export interface ResolvedConfig {
  readonly config: NodeConfig
  /** Where a field was written: `a.yaml:12: training.steps`, `--http-port`. */
  readonly origin: Origin
  /** `undefined` for a field the file sets, otherwise `default` or the flag or variable that set it. */
  source(path: FieldPath): string | undefined
}

/** $PEERTUNE_HOME, or $XDG_DATA_HOME/peertune, or ~/.local/share/peertune. */
export function defaultDataDir(env: Environment): string {
  const home = env.PEERTUNE_HOME
  if (home !== undefined && home !== '') return resolve(home)
  const data = env.XDG_DATA_HOME
  // The XDG specification: a relative path in the variable is to be ignored.
  if (data !== undefined && isAbsolute(data)) return join(data, 'peertune')
  return join(homeFolder(env), '.local', 'share', 'peertune')
}

/**
 * The complete effective configuration: flags before environment before file before defaults. Relative paths in the
 * file start at the file's folder, in flags at the working directory. Throws `config/*` errors that name where the
 * wrong value stands.
 */
export async function resolveConfig(
  file: string,
  flags: ConfigFlags = {},
  env: Environment = {}
): Promise<ResolvedConfig> {
  return resolveYaml(await readYamlFile(file), flags, env)
}

/** `resolveConfig` for a file already read. */
export function resolveYaml(yaml: YamlFile, flags: ConfigFlags = {}, env: Environment = {}): ResolvedConfig {
  const overrides = overridesOf(flags, env)
  const origin = originOf(yaml, overrides)
  const schema = configSchema({ dataDir: defaultDataDir(env), threads: availableParallelism() })
  const checked = checkFields(schema, overlay(yaml.value, overrides), origin)
  const config: NodeConfig = resolvePaths(checked, dirname(resolve(yaml.file)), env)
  const source = (path: FieldPath) =>
    overrides.find((override) => samePath(override.path, path))?.name ??
    (valueAt(yaml.value, path) === undefined ? 'default' : undefined)
  return { config, origin, source }
}

/** The complete effective configuration as YAML; what the file does not set says where it comes from. */
export const printConfig = ({ config, source }: ResolvedConfig): string => printYaml(config, source)

/** Throws `config/unreadable-file` for the first file the configuration names that cannot be read. */
export const checkConfigFiles = ({ config, origin }: ResolvedConfig): Promise<void> => checkFiles(config, origin)

interface Override {
  readonly path: FieldPath
  /** The flag or variable, as the operator knows it. */
  readonly name: string
  readonly value: unknown
}

/** Weakest first. */
function overridesOf(flags: ConfigFlags, env: Environment): Override[] {
  const port = flags.httpPort
  const all: Override[] = [
    { path: ['logLevel'], name: 'PEERTUNE_LOG_LEVEL', value: env.PEERTUNE_LOG_LEVEL || undefined },
    { path: ['logLevel'], name: '--log-level', value: flags.logLevel },
    { path: ['bootstrap'], name: '--bootstrap', value: flags.bootstrap },
    { path: ['listen'], name: '--listen', value: flags.listen },
    {
      path: ['http', 'port'],
      name: '--http-port',
      value: port !== undefined && /^\d+$/.test(port) ? Number(port) : port
    },
    { path: ['dataDir'], name: '--data-dir', value: flags.dataDir === undefined ? undefined : resolve(flags.dataDir) }
  ]
  const given = all.filter(({ value }) => value !== undefined)
  return given.filter(({ path }, i) => !given.slice(i + 1).some((later) => samePath(later.path, path)))
}

const samePath = (a: FieldPath, b: FieldPath): boolean => a.length === b.length && a.every((step, i) => step === b[i])
const startsWith = (path: FieldPath, start: FieldPath): boolean => samePath(path.slice(0, start.length), start)

const isRecord = (value: unknown): value is Record<string, unknown> =>
  value !== null && typeof value === 'object' && !Array.isArray(value)

/** `root` with the overrides put in; what is no mapping stays as it is and fails the check. */
function overlay(root: unknown, overrides: readonly Override[]): unknown {
  return overrides.reduce<unknown>((value, override) => put(value, override.path, override.value), root)
}

function put(root: unknown, [key, ...rest]: FieldPath, value: unknown): unknown {
  if (key === undefined) return value
  if (root !== undefined && !isRecord(root)) return root
  return { ...root, [key]: put(root?.[key], rest, value) }
}

function originOf(yaml: YamlFile, overrides: readonly Override[]): Origin {
  return (path) => {
    const override = overrides.find((one) => startsWith(path, one.path))
    if (override !== undefined) return override.name
    return `${yaml.file}:${yaml.line(path)}: ${path.length === 0 ? 'the file' : fieldName(path)}`
  }
}

/** `data.classes[2]` */
export const fieldName = (path: FieldPath): string =>
  path.reduce<string>((name, step) => {
    if (typeof step === 'number') return `${name}[${step}]`
    return name === '' ? step : `${name}.${step}`
  }, '')
