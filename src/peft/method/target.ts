import { PeertuneError } from '../../base/errors.js'
import type { Weight } from '../../onnx/graph/weight.js'

/** A linear layer of the base model. */
export interface LinearModule {
  /** Hugging Face module path. */
  readonly path: string
  readonly weight: Weight
  readonly inFeatures: number
  readonly outFeatures: number
  /** The weight lies as [out, in]; otherwise [in, out]. */
  readonly outFirst: boolean
}

/** Linear layers in graph order. */
export const linearModules = (weights: ReadonlyMap<string, Weight>): LinearModule[] =>
  Array.from(weights.values()).flatMap((weight) =>
    weight.linear === undefined ? [] : { path: weight.module, weight, ...weight.linear }
  )

/**
 * The modules that the names mean, as PEFT reads `target_modules`: a whole path, or the last segments of one.
 * Throws `config/no-such-module` for a name that means none.
 */
export function matchModules(modules: readonly LinearModule[], names: readonly string[]): LinearModule[] {
  for (const name of names)
    if (!modules.some(({ path }) => isTarget(path, name)))
      throw new PeertuneError('config/no-such-module', `the model has no linear layer called ${name}`, {
        facts: { name, available: [...new Set(modules.map(({ path }) => path))] },
        hint: modules.length === 0 ? NO_MODULES : `it has ${suffixes(modules).join(', ')}`
      })
  return modules.filter(({ path }) => names.some((name) => isTarget(path, name)))
}

const NO_MODULES =
  'its file names no modules: export it with torch.onnx.export, or name nodes /layer/path/MatMul or weights layer.path.weight'

/** Whether `name` means the module, as PEFT reads `target_modules`: all of its path, or the last segments. */
export const isTarget = (path: string, name: string): boolean => path === name || path.endsWith(`.${name}`)

const suffixes = (modules: readonly LinearModule[]): string[] => [
  ...new Set(modules.map(({ path }) => path.split('.').at(-1) as string))
]
