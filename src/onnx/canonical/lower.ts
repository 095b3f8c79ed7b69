import type { Graph, Node } from '../graph/graph.js'
import {
  lowerContribAttention,
  lowerGroupQueryAttention,
  lowerMultiHeadAttention,
  lowerOnnxAttention
} from './lower-attention.js'
import {
  lowerEmbedLayerNormalization,
  lowerFusedMatMul,
  lowerGroupNormalization,
  lowerRmsNormalization,
  lowerSkipLayerNormalization
} from './lower-normalization.js'
import { lowerRotaryEmbedding } from './lower-rotary.js'
import { createBuild, type Lowering } from '../graph/lowering.js'
import { rewriteGraph } from '../graph/rewrite.js'

/** Operators that are spelled out; those of other domains carry their domain's name. */
const LOWERINGS: Readonly<Record<string, Lowering>> = {
  Attention: lowerOnnxAttention,
  GroupNormalization: lowerGroupNormalization,
  RMSNormalization: lowerRmsNormalization,
  RotaryEmbedding: lowerRotaryEmbedding,
  'com.microsoft.Attention': lowerContribAttention,
  'com.microsoft.EmbedLayerNormalization': lowerEmbedLayerNormalization,
  'com.microsoft.FusedMatMul': lowerFusedMatMul,
  'com.microsoft.GroupQueryAttention': lowerGroupQueryAttention,
  'com.microsoft.MultiHeadAttention': lowerMultiHeadAttention,
  'com.microsoft.RotaryEmbedding': lowerRotaryEmbedding,
  'com.microsoft.SkipLayerNormalization': lowerSkipLayerNormalization,
  'com.microsoft.SkipSimplifiedLayerNormalization': lowerSkipLayerNormalization
}

/**
 * Compound operators, opset 23's and those that graph optimisers leave in exports, in terms of small ones, so that the
 * derivative table stays small. Needs a graph of static shapes; the new values have none yet. Throws
 * `onnx/unsupported-feature`, naming the node, for a form that has no place in training (a filled key/value cache).
 */
export function lowerOperators(graph: Graph): Graph {
  if (!graph.nodes.some((node) => loweringOf(node) !== undefined)) return graph
  return rewriteGraph(graph, (node, context) => {
    const results = loweringOf(node)?.(node, createBuild(context))
    if (results === undefined) return false
    for (const [index, result] of results.entries()) {
      const output = node.outputs[index] ?? ''
      if (result === undefined || output === '') continue
      if (context.isOutput(output)) context.emit({ op: 'Identity', inputs: [result], outputs: [output] })
      else context.alias(output, result)
    }
    return true
  })
}

const loweringOf = ({ op, domain }: Node): Lowering | undefined => LOWERINGS[domain === '' ? op : `${domain}.${op}`]
