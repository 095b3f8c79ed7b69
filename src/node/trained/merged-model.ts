import { writeFile } from 'node:fs/promises'
import { PeertuneError } from '../../base/errors.js'
import { floatConstant } from '../../onnx/graph/constant.js'
import type { Graph, Initializer, ValueInfo } from '../../onnx/graph/graph.js'
import { MAX_MODEL_FILE_BYTES } from '../../onnx/file/read.js'
import { readBytes } from '../../onnx/file/weights.js'
import { writeModel } from '../../onnx/file/write.js'
import type { MergedWeight } from '../../peft/method/merge-target.js'
import type { AdaptedModel } from '../model/program.js'

/**
 * Writes the base model with trained parameters merged into its weights: plain ONNX for any runtime, weights inline.
 * Throws `config/cannot-merge` for methods that are more than other weights, and `config/too-large` beyond what one
 * file can hold.
 */
export async function writeMergedModel(path: string, adapted: AdaptedModel, parameters: Float32Array): Promise<void> {
  const merged = adapted.method.merge(parameters)
  if (merged === undefined)
    throw new PeertuneError('config/cannot-merge', 'this method is more than other weights and cannot be merged', {
      hint: 'leave the merged model out; prompts, prefixes and bottlenecks are used as adapters'
    })
  await writeFile(path, writeModel(mergedGraph(adapted, merged)))
}

/** The exporter's graph, of any shape of batch, with the weights of `merged` in place of its own. */
function mergedGraph(
  { model: { graph }, externalDir }: Pick<AdaptedModel, 'model' | 'externalDir'>,
  merged: ReadonlyMap<string, MergedWeight>
): Graph {
  const initializers = new Map<string, Initializer>()
  let bytes = 0
  for (const [name, initializer] of graph.initializers) {
    const other = merged.get(name)
    const inline =
      other === undefined
        ? ({ ...initializer, data: { kind: 'inline', bytes: readBytes(initializer, externalDir) } } as const)
        : floatConstant(name, other.values, other.shape)
    bytes += inline.data.kind === 'inline' ? inline.data.bytes.length : 0
    initializers.set(name, inline)
    if (bytes > MAX_MODEL_FILE_BYTES)
      throw new PeertuneError('config/too-large', 'the merged model does not fit into one file', {
        facts: { limit: MAX_MODEL_FILE_BYTES },
        hint: 'export the adapter alone and merge it with PEFT: model.merge_and_unload()'
      })
  }
  const resized = [...merged].some(([name, { shape }]) => shape.join() !== graph.initializers.get(name)?.shape.join())
  // A head of another width is the last layer: what the model declares of its classes no longer holds.
  const outputs = resized ? graph.outputs.map(withFreeClasses) : graph.outputs
  return { ...graph, initializers, outputs }
}

const withFreeClasses = (output: ValueInfo): ValueInfo => ({
  ...output,
  shape: output.shape.length === 0 ? output.shape : output.shape.with(-1, 'classes')
})
