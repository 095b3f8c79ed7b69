import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { TaskSpec } from '../../../src/base/federation.js'
import { seededRng } from '../../../src/base/rng.js'
import type { Batch } from '../../../src/data/batches/batch.js'
import { loadTrainableModel } from '../../../src/node/model/program.js'
import { floatValues } from '../../../src/onnx/graph/constant.js'
import type { Graph, Initializer } from '../../../src/onnx/graph/graph.js'
import { createSession, type SessionTensor } from '../../../src/onnx/runtime/session.js'
import { writeModel } from '../../../src/onnx/file/write.js'
import { float32ToHalf } from '../../../src/tensor/half.js'
import { createLocalTrainer } from '../../../src/train/step/local-trainer.js'
import type { Exported } from './families/exporter.js'
import { cachedDecoder, optimisedEncoder } from './families/optimised.js'

let folder: string
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'peertune-optimised-'))
})
afterAll(() => rm(folder, { recursive: true }))

const [RANK, ALPHA] = [2, 3]
const tokens = Int32Array.of(4, 9, 7, 2, 10, 8, 3, 10, 1, 1)
const mask = Int32Array.of(1, 1, 1, 1, 1, 1, 1, 1, 0, 0)
const inputs = {
  input_ids: { type: 'int64', shape: [2, 5], data: tokens },
  attention_mask: { type: 'int64', shape: [2, 5], data: mask }
} as const
const decoderLabels = { shape: [2, 5], data: Int32Array.of(9, 7, 2, 10, -100, 3, 10, -100, -100, -100) }
const encoderLabels = { shape: [2], data: Int32Array.of(2, 0) }

const random = (seed: string, length: number): Float32Array => {
  const rng = seededRng('optimised test', seed)
  return Float32Array.from({ length }, () => rng.uniform() - 0.5)
}

interface StepOptions {
  readonly labels: Batch['labels']
  readonly targets: readonly string[]
}

async function step(graph: Graph, name: string, { labels, targets }: StepOptions) {
  const modelPath = join(folder, `${name}.onnx`)
  await writeFile(modelPath, writeModel(graph))
  const peft = { method: 'lora', rank: RANK, alpha: ALPHA, targets, head: [], seed: 'optimised' } as const
  const task: TaskSpec =
    labels.shape.length === 1 ? { kind: 'sequence-classification', labels: ['a', 'b', 'c'] } : { kind: 'causal-lm' }
  const model = await loadTrainableModel({ modelPath, task, peft }, { weightsDir: folder })
  const parameters = random('parameters', model.schema.size)
  const { buildProgram, ...facts } = model
  const trainer = createLocalTrainer({ description: { ...facts, device: { used: 'cpu' } }, buildProgram })
  const result = await trainer.step(parameters, { inputs, labels })
  await trainer.close()
  return { ...result, parameters, model }
}

/** The exported file itself in the runtime, its contrib kernels and all, with adapters merged into its weights. */
async function forwardLoss({ graph }: Exported, changed: ReadonlyMap<string, Initializer>, labels: ArrayLike<number>) {
  const initializers = new Map([...graph.initializers, ...changed])
  const outputs = graph.outputs.filter(({ name }) => name === 'logits')
  const bytes = writeModel({ ...graph, initializers, outputs: [] }, { untypedOutputs: outputs.map(({ name }) => name) })
  const session = await createSession(bytes, { optimization: 'disabled' })
  const past = graph.inputs.filter(({ name }) => name.startsWith('past'))
  const empty = past.map(({ name, shape }): [string, SessionTensor] => [
    name,
    { type: 'float32', shape: [2, shape[1] as number, 0, shape[3] as number], data: new Float32Array() }
  ])
  const { logits } = await session.run({ ...inputs, ...Object.fromEntries(empty) })
  await session.release()
  const classes = logits?.shape.at(-1) as number
  const losses = Array.from(labels).flatMap((label, row) => {
    if (label === -100) return []
    const row1 = Array.from(logits?.data.subarray(row * classes, (row + 1) * classes) ?? [])
    const largest = Math.max(...row1)
    return largest + Math.log(row1.reduce((total, z) => total + Math.exp(z - largest), 0)) - (row1[label] as number)
  })
  return losses.reduce((a, b) => a + b, 0) / losses.length
}

/** Weights [in, out] with the adapters of `parameters` merged in. */
function merge(
  exported: Exported,
  schema: Awaited<ReturnType<typeof step>>['model']['schema'],
  parameters: Float32Array
) {
  const changed = new Map<string, Initializer>()
  for (const entry of schema.entries) {
    const module = /^(.*)\.lora_A\.weight$/.exec(entry.name)?.[1]
    const other = schema.entries.find(({ name }) => name === `${module}.lora_B.weight`)
    if (module === undefined || other === undefined) continue
    const initializer = exported.graph.initializers.get(
      exported.linears.get(module)?.initializer ?? `${module.replace('.self', '')}.qkv.weight`
    ) as Initializer
    const [from = 0, to = 0] = initializer.shape
    const values = Float32Array.from(floatValues(initializer), (value, flat) => {
      const [i, o] = [Math.floor(flat / to), flat % to]
      const row = (r: number): number =>
        (parameters[entry.offset + r * from + i] as number) * (parameters[other.offset + o * RANK + r] as number)
      return value + (ALPHA / RANK) * (row(0) + row(1))
    })
    changed.set(initializer.name, { ...initializer, data: { kind: 'inline', bytes: new Uint8Array(values.buffer) } })
  }
  return changed
}

/**
 * The loss against the exported file in the runtime, and the slope along the gradient against central differences of
 * that: losses of about 2 in float32 are good to 2e-7, a slope over 0.004 with gradients of length 3 to some 1e-5.
 */
async function expectRuntime(exported: Exported, name: string, options: StepOptions): Promise<void> {
  const { loss, gradients, parameters, model } = await step(exported.graph, name, options)
  const at = (shift: number): Promise<number> => {
    const moved = parameters.map((value, i) => value + shift * (gradients[i] as number))
    return forwardLoss(exported, merge(exported, model.schema, moved), options.labels.data)
  }
  expect(Math.abs(loss - (await at(0)))).toBeLessThan(3e-6)
  const squared = gradients.reduce((total, g) => total + g * g, 0)
  const along = async (distance: number): Promise<number> => {
    const stride = distance / Math.sqrt(squared)
    return ((await at(stride)) - (await at(-stride))) / (2 * stride)
  }
  // Richardson's extrapolation takes the third-order error out.
  const slope = (4 * (await along(0.004)) - (await along(0.008))) / 3
  expect(Math.abs(slope - squared) / squared).toBeLessThan(2e-4)
}

const halved = (constant: Initializer): Initializer => {
  if (constant.type !== 'float32' || constant.data.kind !== 'inline') return constant
  const bits = new Uint32Array(new Uint8Array(constant.data.bytes).buffer)
  const bytes = new Uint8Array(Uint16Array.from(bits, float32ToHalf).buffer)
  return { ...constant, type: 'float16', data: { kind: 'inline', bytes } }
}

describe('graphs after optimisation for inference train', () => {
  it('a decoder with grouped attention, a cache and skip norms', () =>
    expectRuntime(cachedDecoder(), 'decoder', {
      labels: decoderLabels,
      targets: ['q_proj', 'v_proj', 'o_proj', 'up_proj']
    }))

  it('an encoder with packed attention and fused embeddings', () =>
    expectRuntime(optimisedEncoder(), 'encoder', { labels: encoderLabels, targets: ['self', 'dense'] }))
})

describe('float16 models', () => {
  const options = { labels: decoderLabels, targets: ['q_proj', 'v_proj'] }
  const { graph } = cachedDecoder()
  const half: Graph = {
    ...graph,
    inputs: graph.inputs.map((input) => (input.type === 'float32' ? { ...input, type: 'float16' } : input)),
    initializers: new Map(Array.from(graph.initializers.values(), (constant) => [constant.name, halved(constant)]))
  }
  /** The same numbers, each exact in float32. */
  const rounded = async () => {
    const { widenHalf } = await import('../../../src/onnx/file/widen-half.js')
    return step(widenHalf(half), 'rounded', options)
  }

  it('train like a float32 model of the same numbers', async () => {
    const expected = await rounded()
    const got = await step(half, 'half', options)
    expect(got.loss).toBe(expected.loss)
    expect(got.gradients).toEqual(expected.gradients)
  })

  it('with their weights in a file, some of them float32', async () => {
    const expected = await rounded()
    const pieces: Uint8Array[] = []
    let offset = 0
    const outside = Array.from(half.initializers.values(), (constant, index): Initializer => {
      if (constant.data.kind !== 'inline' || constant.type === 'int64') return constant
      const kept = index % 3 === 0 && constant.type === 'float16'
      const whole = kept ? (widened(constant) as Initializer) : constant
      if (whole.data.kind !== 'inline') return constant
      const { bytes } = whole.data
      pieces.push(bytes)
      const data = { kind: 'external', location: 'half.data', offset, length: bytes.length } as const
      offset += bytes.length
      return { ...whole, data }
    })
    await writeFile(join(folder, 'half.data'), Buffer.concat(pieces))
    const graphOutside = { ...half, initializers: new Map(outside.map((constant) => [constant.name, constant])) }
    const got = await step(graphOutside, 'outside', options)
    expect(got.loss).toBe(expected.loss)
    expect(got.gradients).toEqual(expected.gradients)

    function widened(constant: Initializer): Initializer | undefined {
      const full = graph.initializers.get(constant.name)
      if (full?.data.kind !== 'inline') return undefined
      const values = Float32Array.from(floatValues(full), (value) => halfValue(value))
      return { ...full, data: { kind: 'inline', bytes: new Uint8Array(values.buffer) } }
    }
  })
})

/** The float32 that binary16 rounds a number to. */
function halfValue(value: number): number {
  const scale = 2 ** (Math.max(-14, Math.floor(Math.log2(Math.abs(value) || 1))) - 10)
  const steps = value / scale
  const floor = Math.floor(steps)
  const rest = steps - floor
  const up = rest > 0.5 || (rest === 0.5 && floor % 2 !== 0)
  return (up ? floor + 1 : floor) * scale
}
