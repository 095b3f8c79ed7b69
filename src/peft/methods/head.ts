import { PeertuneError } from '../../base/errors.js'
import { seededRng } from '../../base/rng.js'
import type { RewriteContext } from '../../onnx/graph/rewrite.js'
import { huggingFaceValues } from '../method/layout.js'
import type { Adapter, AdapterTensor, BaseModel } from '../method/method.js'
import { int, type LinearUse, rewriteLinears, withTensors } from '../rewrite/rewrite-linear.js'
import type { LinearModule } from '../method/target.js'

export interface HeadOptions {
  readonly module: LinearModule
  readonly base: BaseModel
  /** Classes of the task, where the layer makes the logits and the task says; otherwise the layer keeps its width. */
  readonly labels: number | undefined
  readonly seed: string
}

/**
 * A linear layer trained whole beside another method (PEFT's `modules_to_save`): weight float32[labels, hidden] and bias
 * float32[labels], laid out as Hugging Face stores them. Selective. With the base's number of classes it starts from the
 * base's values, otherwise from a seeded start (weight uniform in +-1/sqrt(hidden), bias zero) and the logits get the new
 * width. Linear in its parameters: mixing is exact.
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
      const rewritten = rewriteLinears(withTensors(graph, tensors), [module], (use, context) =>
        emitHead(use, context, { labels, resized: fresh, weightName })
      )
      return { ...rewritten, outputs: graph.outputs.map((output) => rewritten.values.get(output.name) ?? output) }
    },
    merge(target, values) {
      target.replaceLinear(module, values.get(weightName) as Float32Array)
      if (bias !== undefined) target.replace(biasName, values.get(biasName) as Float32Array, [labels])
    }
  }
}

/** The base's weight as [out, in]; a graph may hold it either way round. */
function weightRows({ weight, inFeatures, outFeatures, outFirst }: LinearModule, base: BaseModel): Float32Array {
  const values = base.read(weight.initializer)
  return huggingFaceValues(values, { transposed: !outFirst, shape: [inFeatures, outFeatures] })
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

function emitHead(use: LinearUse, context: RewriteContext, { labels, resized, weightName }: Widening): void {
  const { gemm, y, rows } = use
  if (resized && !context.isOutput(y))
    throw new PeertuneError('config/head-not-last', `${weightName} is not the last layer, so its width cannot change`, {
      facts: { weight: weightName, labels },
      hint: 'name the layer that makes the logits as head, or give the task as many labels as the base model has'
    })
  context.emit({
    op: 'Gemm',
    inputs: [gemm.inputs[0] as string, weightName, ...gemm.inputs.slice(2)],
    attributes: { ...gemm.attributes, transB: int(1) },
    outputs: [y],
    shape: [rows, labels]
  })
}
