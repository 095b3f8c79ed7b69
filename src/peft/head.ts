import { PeertuneError } from '../base/errors.js'
import { seededRng } from '../base/rng.js'
import type { Graph, Node } from '../onnx/graph.js'
import { huggingFaceValues } from './layout.js'
import type { Adapter, AdapterTensor, BaseModel } from './method.js'
import { float32Value, type LinearReplacement, rewriteLinears, rowsOf } from './rewrite-linear.js'
import type { LinearModule } from './target.js'

export interface HeadOptions {
  readonly module: LinearModule
  readonly base: BaseModel
  /** Classes of the task; the base head's own number where the task does not say. */
  readonly labels: number | undefined
  readonly seed: string
}

/**
 * A linear layer trained whole (PEFT's `modules_to_save`): weight float32[labels, hidden] and bias float32[labels], laid
 * out as Hugging Face stores them. With the base's number of classes it starts from the base's values, otherwise from a
 * seeded start (weight uniform in +-1/sqrt(hidden), bias zero) and the logits get the new width.
 */
export function createHead({ module, base, labels = module.outFeatures, seed }: HeadOptions): Adapter {
  const biasName = `${module.path}.bias`
  const weightName = `${module.path}.weight`
  const bias = base.weights.get(biasName)
  const fresh = labels !== module.outFeatures
  const tensors: AdapterTensor[] = [
    {
      name: weightName,
      shape: [labels, module.inFeatures],
      initial: fresh ? freshWeight(seed, module, labels) : weightRows(module, base)
    },
    ...(bias === undefined
      ? []
      : [{ name: biasName, shape: [labels], initial: fresh ? new Float32Array(labels) : base.read(bias.initializer) }])
  ]
  return {
    tensors,
    rewrite(graph) {
      const inputs = tensors.map(({ name, shape }) => float32Value(name, shape))
      return rewriteLinears(graph, inputs, (gemm, weight) =>
        weight === module.weight.name ? widened(graph, gemm, { labels, resized: fresh, weightName }) : undefined
      )
    }
  }
}

/** The base's weight as [out, in]; a graph may hold it either way round. */
function weightRows({ weight, inFeatures, outFeatures }: LinearModule, base: BaseModel): Float32Array {
  const [rows] = weight.initializer.shape
  const values = base.read(weight.initializer)
  if (rows === outFeatures && !weight.transposed) return values
  return huggingFaceValues(values, { transposed: true, shape: [inFeatures, outFeatures] })
}

function freshWeight(seed: string, { path, inFeatures }: LinearModule, labels: number): Float32Array {
  const rng = seededRng(seed, 'head', path)
  const bound = 1 / Math.sqrt(inFeatures)
  return Float32Array.from({ length: labels * inFeatures }, () => (2 * rng.uniform() - 1) * bound)
}

interface Widening {
  readonly labels: number
  readonly resized: boolean
  readonly weightName: string
}

function widened(graph: Graph, gemm: Node, { labels, resized, weightName }: Widening): LinearReplacement {
  const [output = ''] = gemm.outputs
  if (resized && !graph.outputs.some(({ name }) => name === output))
    throw new PeertuneError('config/head-not-last', `${weightName} is not the last layer, so its width cannot change`, {
      facts: { weight: weightName, labels },
      hint: 'name the layer that makes the logits as head, or give the task as many labels as the base model has'
    })
  const inputs = [gemm.inputs[0] as string, weightName, ...gemm.inputs.slice(2)]
  const attributes: Node['attributes'] = { ...gemm.attributes, transB: { type: 'int', value: 1 } }
  return {
    nodes: [{ ...gemm, inputs, attributes }],
    values: [float32Value(output, [rowsOf(graph, gemm), labels])]
  }
}
