import type { Shape } from '../../tensor/schema.js'
import { dropCache } from '../graph/cache.js'
import { fusePatterns } from './fuse.js'
import type { Graph, Node } from '../graph/graph.js'
import { hoistScales } from './hoist-scale.js'
import { canonicalLinears } from './linear.js'
import { lowerOperators } from './lower.js'
import { wrapperPrefix } from '../graph/module-path.js'
import { correctModules } from '../graph/module-scopes.js'
import { dequantisedUses, lowerMatMulNBits, nameDequantised } from '../int8/quantised.js'
import { clearDeadShapeOps } from './dead-shape-ops.js'
import { renameValues } from '../graph/rename.js'
import { tidyReshapes } from '../graph/reshapes.js'
import { foldConstantsAndAliases } from './simplify.js'
import { inferTypes, specialise } from './specialise.js'
import { upgradeOpset } from './upgrade.js'
import type { NamedWeights } from '../graph/weight.js'
import { nameWeights, weightModules } from '../file/weight-names.js'
import { widenHalf } from '../file/widen-half.js'

/**
 * Exporter's graph -> opset 20 or later, in float32, without a key/value cache, no Constant or Identity nodes, every weight
 * under its Hugging Face name.
 */
export function nameModel(exported: Graph): NamedWeights {
  const plain = foldConstantsAndAliases(dropCache(widenHalf(exported)))
  const graph = correctModules(lowerMatMulNBits(upgradeOpset(plain)))
  const quantised = dequantisedUses(graph).map(({ module }) => module)
  const prefix = wrapperPrefix([...new Set([...weightModules(graph), ...quantised])])
  const named = nameDequantised(nameWeights(graph, prefix), prefix)
  return { ...named, graph: withoutPrefix(named.graph, prefix) }
}

/** Nodes under the same names as weights, so that a model written from this graph reads as what it was. */
function withoutPrefix(graph: Graph, prefix: string): Graph {
  if (prefix === '') return graph
  const nodes = graph.nodes.map((node): Node => {
    const { module } = node
    if (module === undefined || !`${module}.`.startsWith(prefix)) return node
    return { ...node, module: module.slice(prefix.length) }
  })
  return { ...graph, nodes }
}

/**
 * One graph for one shape of batch, the same whatever the exporter: every value has a type and a static shape, shape
 * arithmetic is folded away, linear layers are `Gemm` on matrices with the weight as second input under its Hugging Face
 * name, and compound operators are spelled out. Frozen weights stay references. Costs 50 to 400 ms.
 *
 * @param inputs concrete shape of every graph input, e.g. `input_ids` [batch, seq].
 */
export async function canonicalise(
  { graph, weights }: NamedWeights,
  inputs: Readonly<Record<string, Shape>>
): Promise<Graph> {
  const names = new Set(weights.keys())
  const folded = await specialise(graph, inputs, names)
  const lowered = lowerOperators(folded)
  const spelled = lowered === folded ? folded : await inferTypes(lowered, names)
  const typed = await inferTypes(canonicalLinears(fusePatterns(clearDeadShapeOps(spelled))), names)
  return renameValues(tidyReshapes(hoistScales(typed)), names)
}
