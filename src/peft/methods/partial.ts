import { PeertuneError } from '../../base/errors.js'
import type { PartialSpec } from '../../base/peft-spec.js'
import type { Weight } from '../../onnx/graph/weight.js'
import type { Adapter, BaseModel } from '../method/method.js'
import { isMeantBy } from '../../base/name-pattern.js'
import { createSelected } from './selected.js'

/**
 * Some modules of the base train whole, under their own names: the last blocks, or those that patterns name. Selective
 * (surgical or partial fine-tuning: Lee et al. 2023, https://arxiv.org/abs/2210.11466). Linear in its parameters: mixing
 * is exact.
 */
export const createPartial = (weights: readonly Weight[], base: BaseModel): Adapter =>
  createSelected(
    weights.map((weight) => ({ weight })),
    base
  )

/** Throws `config/no-such-module` and `config/nothing-to-train`. */
export function partsOf({ targets, lastLayers }: PartialSpec, all: readonly Weight[]): Weight[] {
  for (const target of targets)
    if (!all.some(({ module }) => isMeantBy(target, module)))
      throw new PeertuneError('config/no-such-module', `the model has no weights in a module called ${target}`, {
        facts: { name: target, available: [...new Set(all.map(({ module }) => module))] },
        hint: 'peertune inspect lists the modules of a model'
      })
  const blocks = lastBlocks(all, lastLayers)
  const meant = all.filter(
    ({ module }) =>
      targets.some((target) => isMeantBy(target, module)) || blocks.some((block) => module.startsWith(block))
  )
  if (meant.length > 0) return meant
  throw new PeertuneError('config/nothing-to-train', 'partial: neither targets nor lastLayers name anything', {
    hint: 'give targets, lastLayers, or both'
  })
}

/** A module path up to its first number: `model.layers.3.` of `model.layers.3.mlp.up_proj`. */
const BLOCK = /^(?:.*?\.)??\d+\./

/** Paths of the last blocks, in the numbered list with the most of them. Throws `config/too-few-layers`. */
function lastBlocks(all: readonly Weight[], count: number): string[] {
  if (count === 0) return []
  const lists = new Map<string, Set<string>>()
  for (const { module } of all) {
    const [block] = BLOCK.exec(`${module}.`) ?? []
    if (block === undefined) continue
    const list = block.replace(/\d+\.$/, '')
    lists.set(list, (lists.get(list) ?? new Set()).add(block))
  }
  const longest = [...lists.values()].reduce((most, list) => (list.size > most.size ? list : most), new Set<string>())
  if (count > longest.size)
    throw new PeertuneError('config/too-few-layers', `the model has ${longest.size} numbered layers, not ${count}`, {
      facts: { wanted: count, found: longest.size },
      hint: 'lower lastLayers, or name targets'
    })
  const number = (block: string): number => Number(/(\d+)\.$/.exec(block)?.[1])
  return [...longest].sort((a, b) => number(a) - number(b)).slice(-count)
}
