import type { Shape } from '../tensor/schema.js'
import type { Graph } from './graph.js'
import { foldConstantsAndAliases, upgradeOpset } from './simplify.js'
import { specialise } from './specialise.js'
import type { NamedWeights } from './weight.js'
import { nameWeights } from './weight-names.js'

/** Exporter's graph -> opset 20 or later, no Constant or Identity nodes, every weight under its Hugging Face name. */
export const nameModel = (graph: Graph): NamedWeights => nameWeights(upgradeOpset(foldConstantsAndAliases(graph)))

export async function canonicalise(
  { graph, weights }: NamedWeights,
  inputs: Readonly<Record<string, Shape>>
): Promise<Graph> {
  return specialise(graph, inputs, new Set(weights.keys()))
}
