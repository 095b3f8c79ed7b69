import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { seededRng } from '../../../src/base/rng.js'
import type { Batch, BatchTensor } from '../../../src/data/batches/batch.js'
import { loadTrainableModel } from '../../../src/node/model/program.js'
import { writeModel } from '../../../src/onnx/file/write.js'
import { viewOf } from '../../../src/tensor/schema.js'
import { createLocalTrainer } from '../../../src/train/step/local-trainer.js'
import { gemma2, gptNeox, mistral, opt, phi, qwen2, qwen3 } from './families/decoders.js'
import { createDoubleRuntime, type Tensor } from './families/double.js'
import { albert, clipText, distilbert, electra, roberta, t5Encoder, whisperEncoder } from './families/encoders.js'
import type { Exported, LinearPlace } from './families/exporter.js'
import { clipVision, convnext, deit, swin } from './families/vision.js'

/**
 * Small graphs in the manner of PyTorch's exporters, written by hand: the patterns of a family, not an export of one.
 * LoRA gradients against central differences of the same graph in double precision with the adapters merged into the
 * weights, so that neither the rewriting nor the derivative rules are on both sides.
 */
interface Family {
  readonly make: () => Exported
  /** Last segments of the linear layers that get adapters. */
  readonly targets: readonly string[]
}

const FAMILIES: Readonly<Record<string, Family>> = {
  DistilBERT: { make: distilbert, targets: ['q_lin', 'v_lin', 'lin2'] },
  RoBERTa: { make: roberta, targets: ['query', 'value'] },
  ALBERT: { make: albert, targets: ['query', 'value', 'ffn_output'] },
  ELECTRA: { make: electra, targets: ['key', 'value'] },
  OPT: { make: opt, targets: ['q_proj', 'v_proj', 'fc1'] },
  'GPT-NeoX': { make: gptNeox, targets: ['query_key_value', 'dense_4h_to_h'] },
  Mistral: { make: mistral, targets: ['q_proj', 'k_proj', 'v_proj', 'o_proj'] },
  'Qwen 2': { make: qwen2, targets: ['q_proj', 'v_proj', 'down_proj'] },
  'Qwen 3': { make: qwen3, targets: ['q_proj', 'k_proj', 'v_proj'] },
  Phi: { make: phi, targets: ['q_proj', 'v_proj', 'fc2'] },
  'Gemma 2': { make: gemma2, targets: ['q_proj', 'v_proj', 'gate_proj'] },
  DeiT: { make: deit, targets: ['query', 'value'] },
  Swin: { make: swin, targets: ['query', 'value', 'reduction'] },
  ConvNeXt: { make: convnext, targets: ['pwconv1', 'pwconv2'] },
  'CLIP, vision': { make: clipVision, targets: ['q_proj', 'v_proj'] },
  'CLIP, text': { make: clipText, targets: ['q_proj', 'v_proj', 'text_projection'] },
  'Whisper, encoder': { make: whisperEncoder, targets: ['q_proj', 'v_proj'] },
  'T5, encoder': { make: t5Encoder, targets: ['q', 'v', 'wo'] }
}

const [RANK, ALPHA] = [2, 3]
/** Half of a central difference: errors about 1e-9 in double precision. */
const STEP = 1e-4
/** Of the largest reference value of a tensor: what PyTorch's gradients are held to as well. */
const BOUND = 1e-5

let folder: string
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'peertune-families-'))
})
afterAll(() => rm(folder, { recursive: true }))

const random = (seed: string, length: number, scale = 1): number[] => {
  const rng = seededRng('family test', seed)
  return Array.from({ length }, () => Math.fround(scale * (2 * rng.uniform() - 1)))
}

/** A batch of two: token ids with padding behind the second, or noise for images and sound. */
function batchOf({ graph }: Exported): Batch {
  const inputs: Record<string, BatchTensor> = {}
  for (const { name, shape } of graph.inputs) {
    const dims = shape.map((dim) =>
      dim === 'batch' ? 2 : dim === 'frames' ? 10 : dim === 'sequence' ? 5 : Number(dim)
    )
    const size = dims.reduce((a, b) => a * b, 1)
    const tokens = [4, 9, 7, 2, 10, 8, 3, 10, 1, 1]
    const ints = name === 'attention_mask' ? tokens.map((id) => Number(id !== 1)) : tokens
    inputs[name] =
      name === 'input_ids' || name === 'attention_mask'
        ? { type: 'int64', shape: dims, data: Int32Array.from(ints) }
        : { type: 'float32', shape: dims, data: Float32Array.from(random(name, size)) }
  }
  return { inputs, labels: { shape: [2], data: Int32Array.of(2, 0) } }
}

/** One label a sequence, or a token at every position but padding and the last. */
const isLanguageModel = ({ graph }: Exported): boolean => graph.nodes.some(({ name }) => /lm_head|embed_out/.test(name))

const doubles = ({ shape, data, type }: BatchTensor): Tensor => ({
  shape,
  data: Float64Array.from(data),
  whole: type === 'int64'
})

const LANGUAGE = { kind: 'causal-lm' } as const
const CLASSES = { kind: 'sequence-classification', labels: ['a', 'b', 'c'] } as const

/** Mean cross entropy over the labels that are not -100. */
function crossEntropy({ shape, data }: Tensor, labels: ArrayLike<number>): number {
  const classes = shape.at(-1) as number
  const losses = Array.from(labels).flatMap((label, row) => {
    if (label === -100) return []
    const logits = Array.from(data.subarray(row * classes, (row + 1) * classes))
    const largest = Math.max(...logits)
    return largest + Math.log(logits.reduce((total, z) => total + Math.exp(z - largest), 0)) - (logits[label] as number)
  })
  return losses.reduce((a, b) => a + b, 0) / losses.length
}

/** W + scale B A in the layout of the initializer. */
function merged(weight: Tensor, { outFirst }: LinearPlace, a: Float64Array, b: Float64Array): Tensor {
  const [first = 0, second = 0] = weight.shape
  const inner = outFirst ? second : first
  const data = weight.data.map((value, flat) => {
    const [row, column] = [Math.floor(flat / second), flat % second]
    const [out, into] = outFirst ? [row, column] : [column, row]
    let update = 0
    for (let r = 0; r < RANK; r++) update += (b[out * RANK + r] as number) * (a[r * inner + into] as number)
    return value + (ALPHA / RANK) * update
  })
  return { ...weight, data }
}

async function check({ make, targets }: Family, name: string) {
  const exported = make()
  const modelPath = join(folder, `${name.replaceAll(/\W/g, '')}.onnx`)
  await writeFile(modelPath, writeModel(exported.graph))
  const peft = { method: 'lora', rank: RANK, alpha: ALPHA, targets, head: [], seed: 'family' } as const
  const task = isLanguageModel(exported) ? LANGUAGE : CLASSES
  const model = await loadTrainableModel({ modelPath, task, peft }, { weightsDir: folder })
  const parameters = Float32Array.from(random('parameters', model.schema.size, 0.5))
  const plain = batchOf(exported)
  const labels = isLanguageModel(exported)
    ? { shape: [2, 5], data: Int32Array.of(9, 7, 2, 10, -100, 3, 10, -100, -100, -100) }
    : plain.labels
  const { buildProgram, ...facts } = model
  const trainer = createLocalTrainer({ description: { ...facts, device: { used: 'cpu' } }, buildProgram })
  const { loss, gradients } = await trainer.step(parameters, { ...plain, labels })
  await trainer.close()

  const feeds = Object.fromEntries(Object.entries(plain.inputs).map(([input, value]) => [input, doubles(value)]))
  const runtime = createDoubleRuntime(exported.graph, feeds, 'logits')
  const exact = Float64Array.from(parameters)
  const modules = [...new Set(model.schema.entries.map((entry) => entry.name.replace(/\.lora_[AB]\.weight$/, '')))]
  const partsOf = (module: string) => {
    const tensor = (which: 'A' | 'B') => {
      const entry = model.schema.entries.find((e) => e.name === `${module}.lora_${which}.weight`)
      if (entry === undefined) throw new Error(`no adapter on ${module}`)
      return entry
    }
    return { module, place: exported.linears.get(module) as LinearPlace, a: tensor('A'), b: tensor('B') }
  }
  const all = modules.map(partsOf)
  const change = ({ place, a, b }: (typeof all)[number]): readonly [string, Tensor] => {
    const part = ({ offset, size }: typeof a) => exact.subarray(offset, offset + size)
    return [place.initializer, merged(runtime.valueOf(place.initializer), place, part(a), part(b))]
  }
  const start = new Map(all.map(change))
  const objective = (changed: ReadonlyMap<string, Tensor>): number =>
    crossEntropy(runtime.evaluate(changed), labels.data)
  const reference = objective(start)

  let worst = 0
  for (const parts of all)
    for (const entry of [parts.a, parts.b]) {
      const numeric = Array.from({ length: entry.size }, (_, i) => {
        const at = entry.offset + i
        const shifted = (by: number): number => {
          const kept = exact[at] as number
          exact[at] = kept + by
          const value = objective(new Map([...start, change(parts)]))
          exact[at] = kept
          return value
        }
        return (shifted(STEP) - shifted(-STEP)) / (2 * STEP)
      })
      const got = viewOf(gradients, entry)
      const scale = Math.max(...numeric.map(Math.abs))
      worst = Math.max(worst, ...numeric.map((value, i) => Math.abs(value - (got[i] as number)) / scale))
    }
  return { loss, reference, worst, modules }
}

describe('exporter-like graphs of model families train', () => {
  it.each(Object.entries(FAMILIES))('%s', async (name, family) => {
    const { loss, reference, worst, modules } = await check(family, name)
    expect(modules.length).toBeGreaterThanOrEqual(family.targets.length)
    expect(Math.abs(loss - reference)).toBeLessThan(2e-6 * Math.max(1, reference))
    expect(worst).toBeLessThan(BOUND)
  })
})

it('a model that cannot be trained is refused by node, op and module (the highest in the way), before it runs', async () => {
  const exported = distilbert()
  const nodes = exported.graph.nodes.map((node) => (node.op === 'Erf' ? { ...node, op: 'ThresholdedRelu' } : node))
  const modelPath = join(folder, 'blocked.onnx')
  await writeFile(modelPath, writeModel({ ...exported.graph, nodes }))
  const peft = { method: 'lora', rank: RANK, alpha: ALPHA, targets: ['q_lin'], head: [], seed: 'family' } as const
  const task = CLASSES
  const { buildProgram } = await loadTrainableModel({ modelPath, task, peft }, { weightsDir: folder })
  const shapes = { input_ids: [2, 5], attention_mask: [2, 5], labels: [2] }
  await expect(buildProgram('train', shapes)).rejects.toMatchObject({
    code: 'autodiff/no-rule',
    facts: {
      op: 'ThresholdedRelu',
      node: '/distilbert/transformer/layer.1/ffn/Erf',
      module: 'distilbert.transformer.layer.1.ffn'
    }
  })
})
