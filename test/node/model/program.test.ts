import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { flattenGradients, FLAT_GRADIENTS } from '../../../src/autodiff/flatten.js'
import { LOSS } from '../../../src/autodiff/loss.js'
import type { TaskSpec } from '../../../src/base/federation.js'
import type { PeftSpec } from '../../../src/base/peft-spec.js'
import { type Batch, type BatchTensor, IGNORED_LABEL } from '../../../src/data/batches/batch.js'
import { openLocalTrainer } from '../../../src/node/model/open-trainer.js'
import { type LoadOptions, loadTrainableModel, type TrainableModel } from '../../../src/node/model/program.js'
import { productFlops } from '../../../src/onnx/graph/flops.js'
import type { Graph } from '../../../src/onnx/graph/graph.js'
import { FULL_RANGE, HALF_RANGE } from '../../../src/onnx/runtime/int8-probe.js'
import { executionOrder, peakLiveBytes } from '../../../src/onnx/graph/live-bytes.js'
import { createSession } from '../../../src/onnx/runtime/session.js'
import { floatsOf, intsOf, readSafetensors } from '../../../src/tensor/safetensors.js'
import { viewOf } from '../../../src/tensor/schema.js'
import { cosine } from '../../../src/train/step/float32-check.js'
import { labelRowsOf } from '../../../src/train/step/label-rows.js'
import { LABEL_ROWS, type Program } from '../../../src/train/step/program.js'
import { wave } from '../../onnx/small-graph.js'

const golden = fileURLToPath(new URL('../../golden/conformance', import.meta.url))
const LANGUAGE: TaskSpec = { kind: 'causal-lm' }

let weightsDir: string
beforeAll(async () => {
  weightsDir = await mkdtemp(join(tmpdir(), 'peertune-program-'))
})
afterAll(() => rm(weightsDir, { recursive: true }))

const lora = (targets: readonly string[], head: readonly string[] = []): PeftSpec => ({
  method: 'lora',
  rank: 4,
  alpha: 6,
  targets,
  head,
  seed: 'program'
})

const specOf = (name: string, task: TaskSpec, peft: PeftSpec) => ({
  modelPath: join(golden, name, 'model.onnx'),
  task,
  peft,
  device: 'cpu' as const,
  threads: 1
})

async function batchOf(name: string): Promise<Batch> {
  const path = join(golden, name, 'inputs.safetensors')
  const tensors = readSafetensors(await readFile(path), path)
  const inputs: Record<string, BatchTensor> = {}
  for (const [key, entry] of tensors)
    if (key !== 'labels')
      inputs[key] =
        entry.type === 'F32'
          ? { type: 'float32', shape: entry.shape, data: Float32Array.from(floatsOf(entry, key)) }
          : { type: 'int64', shape: entry.shape, data: intsOf(entry, key) }
  const labels = tensors.get('labels')
  return { inputs, labels: { shape: labels?.shape ?? [], data: labels ? intsOf(labels, 'labels') : new Int32Array() } }
}

/** Non-zero everywhere, so that no gradient is zero by itself. */
const startOf = ({ initial }: Pick<TrainableModel, 'initial'>): Float32Array =>
  initial.map((value, i) => value + wave(i) / 20)

const shapesOf = ({ inputs }: Batch) =>
  Object.fromEntries(Object.entries(inputs).map(([name, { shape }]) => [name, shape]))

async function runProgram(
  { graph, externalDir, parameters, gradients }: Program,
  { model, tensors }: { model: TrainableModel; tensors: Record<string, BatchTensor> }
) {
  const options = { optimization: 'disabled', ...(externalDir && { externalDir }) } as const
  const session = await createSession(flattenGradients(graph, gradients), options)
  const start = startOf(model)
  const feeds = model.schema.entries.map(
    (entry, i) =>
      [parameters[i] as string, { type: 'float32', shape: entry.shape, data: viewOf(start, entry) }] as const
  )
  const results = await session.run({ ...tensors, ...Object.fromEntries(feeds) })
  await session.release()
  return { loss: results[LOSS]?.data[0] ?? Number.NaN, gradients: results[FLAT_GRADIENTS]?.data as Float32Array }
}

function expectClose(got: Float32Array, want: Float32Array, tolerance = 2e-6): void {
  const largest = want.reduce((max, value) => Math.max(max, Math.abs(value)), 0)
  expect(largest).toBeGreaterThan(0)
  expect(got).toHaveLength(want.length)
  const worst = got.reduce((max, value, i) => Math.max(max, Math.abs(value - (want[i] as number))), 0)
  expect(worst / largest).toBeLessThan(tolerance)
}

interface Steps extends LoadOptions {
  readonly steps?: number
}

type Spec = Parameters<typeof openLocalTrainer>[0]

const stepOf = async (spec: Spec, batch: Batch, { steps = 1, ...options }: Steps = {}) => {
  const trainer = await openLocalTrainer(spec, { weightsDir, ...options })
  const results = []
  for (let i = 0; i < steps; i++) results.push(await trainer.step(startOf(trainer.description), batch))
  await trainer.close()
  return results
}

describe('rows that nobody reads', () => {
  it.each(['gpt2-dynamo', 'llama-dynamo'])('%s: labels picked out give the loss and gradients of all', async (name) => {
    const spec = specOf(name, LANGUAGE, lora(name.startsWith('gpt2') ? ['c_attn', 'c_fc'] : ['q_proj', 'down_proj']))
    const model = await loadTrainableModel(spec, { weightsDir })
    const whole = await batchOf(name)
    const data = Int32Array.from(whole.labels.data, (label, i) => (i % 5 === 2 ? Math.max(label, 0) : IGNORED_LABEL))
    const batch = { ...whole, labels: { ...whole.labels, data } }
    const labels: BatchTensor = { type: 'int64', shape: batch.labels.shape, data }
    const all = await model.buildProgram('train', { ...shapesOf(batch), labels: labels.shape })
    const expected = await runProgram(all, { model, tensors: { ...batch.inputs, labels } })

    const picked = labelRowsOf(batch)
    expect(picked?.labels.shape[0]).toBeLessThan(data.length / 2)
    if (picked === undefined) return
    const shapes = { ...shapesOf(batch), labels: labels.shape, [LABEL_ROWS]: picked.rows.shape }
    const few = await model.buildProgram('train', shapes)
    const tensors = { ...batch.inputs, labels: picked.labels, [LABEL_ROWS]: picked.rows }
    const got = await runProgram(few, { model, tensors })
    expect(got.loss).toBeCloseTo(expected.loss, 6)
    expectClose(got.gradients, expected.gradients)
    expect(productFlops(few.graph, few.graph.nodes)).toBeLessThan(0.9 * productFlops(all.graph, all.graph.nodes))
  })

  it('BERT: behind the attention of the last layer only the pooled position is computed', async () => {
    const task: TaskSpec = { kind: 'sequence-classification', labels: ['a', 'b', 'c'] }
    const model = await loadTrainableModel(specOf('bert-torchscript', task, lora(['query'], ['classifier'])), {
      weightsDir
    })
    const batch = await batchOf('bert-torchscript')
    const [rows = 0, length = 0] = batch.inputs.input_ids?.shape ?? []
    const { graph } = await model.buildProgram('evaluate', { ...shapesOf(batch), labels: [rows] })
    const widths = graph.nodes.filter(({ op }) => op === 'Gelu').map((node) => graph.values.get(node.outputs[0] ?? ''))
    expect(widths.map((value) => value?.shape.slice(0, -1))).toEqual([[rows, length], [rows]])
  })
})

describe('the reverse pass', () => {
  it('stops at the lowest adapter', async () => {
    const batch = await batchOf('gpt2-dynamo')
    const nodesFor = async (targets: readonly string[]): Promise<Graph> => {
      const spec = specOf('gpt2-dynamo', LANGUAGE, lora(targets))
      const model = await loadTrainableModel(spec, { weightsDir })
      const shapes = { ...shapesOf(batch), labels: batch.labels.shape }
      return (await model.buildProgram('train', shapes)).graph
    }
    const backward = ({ nodes }: Graph): number => nodes.filter(({ name }) => name.startsWith('ad.')).length
    const [bottom, top, head] = [
      await nodesFor(['transformer.h.0.attn.c_attn']),
      await nodesFor(['transformer.h.1.attn.c_attn']),
      await nodesFor(['transformer.h.1.mlp.c_proj'])
    ]
    expect(backward(top)).toBeLessThan(0.65 * backward(bottom))
    expect(backward(head)).toBeLessThan(0.5 * backward(bottom))
  })
})

describe('what saves time or memory leaves the numbers alone', () => {
  it('activations of the frozen part from the cache', async () => {
    const task: TaskSpec = { kind: 'sequence-classification', labels: ['a', 'b', 'c'] }
    const spec = specOf('bert-torchscript', task, lora(['bert.encoder.layer.1.attention.self.query'], ['classifier']))
    const batch = await batchOf('bert-torchscript')
    const model = await loadTrainableModel(spec, { weightsDir, activationCacheMb: 8 })
    const { frozen } = await model.buildProgram('train', { ...shapesOf(batch), labels: batch.labels.shape })
    expect(frozen?.values).toHaveLength(1)
    const [expected] = await stepOf({ ...spec, activationCacheMb: 0 }, batch)
    for (const got of await stepOf({ ...spec, activationCacheMb: 8 }, batch, { steps: 3 })) {
      expect(got.loss).toBeCloseTo(expected?.loss ?? 0, 6)
      expectClose(got.gradients, expected?.gradients ?? new Float32Array())
    }
  })

  it.each(['gpt2-dynamo', 'llama-dynamo'])('%s: layers that run twice, bit for bit', async (name) => {
    const spec = specOf(name, LANGUAGE, lora(name.startsWith('gpt2') ? ['c_attn'] : ['v_proj']))
    const batch = await batchOf(name)
    const [expected] = await stepOf({ ...spec, activationCacheMb: 0 }, batch)
    const [got] = await stepOf({ ...spec, activationCacheMb: 0, memoryMb: 0.001 }, batch)
    expect(got?.loss).toBe(expected?.loss)
    expect(got?.gradients).toEqual(expected?.gradients)

    const shapes = { ...shapesOf(batch), labels: batch.labels.shape }
    const peak = async (options: LoadOptions) => {
      const { graph } = await (await loadTrainableModel(spec, { weightsDir, ...options })).buildProgram('train', shapes)
      return peakLiveBytes(graph)
    }
    expect(await peak({ memoryMb: 0.001 })).toBeLessThan(0.95 * (await peak({})))
  })

  it.each([1, 2, 3])('gradients added up over parts of %i examples', async (microBatch) => {
    const spec = specOf('gpt2-dynamo', LANGUAGE, lora(['c_attn']))
    const batch = await batchOf('gpt2-dynamo')
    const [expected] = await stepOf(spec, batch)
    const [got] = await stepOf({ ...spec, microBatch }, batch)
    expect(got?.loss).toBeCloseTo(expected?.loss ?? 0, 5)
    expectClose(got?.gradients ?? new Float32Array(), expected?.gradients ?? new Float32Array(), 1e-5)
  })
})

describe('training in 8 bits', () => {
  const CASES = [
    ['llama-dynamo', LANGUAGE, ['q_proj', 'down_proj']],
    ['bert-torchscript', { kind: 'sequence-classification', labels: ['a', 'b', 'c'] }, ['query', 'value']]
  ] as const
  const gradientsOf = (result: { readonly gradients: Float32Array } | undefined) => result?.gradients as Float32Array

  it.each(CASES)(
    '%s: gradients keep the direction of those in float32, and the first step says so',
    async (name, task, targets) => {
      const spec = specOf(name, task, lora(targets))
      const batch = await batchOf(name)
      const [exact] = await stepOf(spec, batch)
      const [coded, again] = await stepOf({ ...spec, arithmetic: 'int8' }, batch, { steps: 2 })
      expect(coded?.float32Cosine).toBeGreaterThan(0.98)
      expect(coded?.float32Cosine).toBeLessThan(1 - 1e-7)
      expect(cosine(gradientsOf(coded), gradientsOf(exact))).toBeCloseTo(coded?.float32Cosine as number, 5)
      expect(again).not.toHaveProperty('float32Cosine')
      expect(again?.gradients).toEqual(coded?.gradients)
    }
  )

  it.each(CASES)('%s: and where kernels saturate, with half of the codes', async (name, task, targets) => {
    const spec = { ...specOf(name, task, lora(targets)), arithmetic: 'int8' } as const
    const batch = await batchOf(name)
    const [exact] = await stepOf({ ...spec, arithmetic: 'float32' }, batch)
    const step = async (largest: number) => (await stepOf(spec, batch, { largestCode: async () => largest }))[0]
    const [full, half] = [await step(FULL_RANGE), await step(HALF_RANGE)]
    const cosines = [full, half].map((result) => cosine(gradientsOf(result), gradientsOf(exact)))
    expect(half?.float32Cosine).toBeCloseTo(cosines[1] as number, 5)
    expect(cosines[1]).toBeGreaterThan(0.97)
    // Codes twice as coarse are other numbers, and not better ones.
    expect(cosines[1]).toBeLessThan(cosines[0] as number)
  })
})

describe('what is in memory', () => {
  it('the loss is computed before the reverse pass begins, so that the logits are done with', async () => {
    const spec = specOf('gpt2-dynamo', LANGUAGE, lora(['c_attn']))
    const batch = await batchOf('gpt2-dynamo')
    const model = await loadTrainableModel(spec, { weightsDir })
    const shapes = { ...shapesOf(batch), labels: batch.labels.shape }
    const { graph, gradients } = await model.buildProgram('train', shapes)
    const order = executionOrder(flattenGradients(graph, gradients)).map(({ outputs }) => outputs[0] as string)
    const vocabularyWide = (name: string) => graph.values.get(name)?.shape.at(-1) === 320
    const [logits, probabilities, ...reverse] = order.flatMap((name, at) => (vocabularyWide(name) ? [at] : []))
    const loss = order.indexOf(graph.outputs[0]?.name as string)
    expect(logits).toBeLessThan(probabilities as number)
    expect(probabilities).toBeLessThan(loss)
    expect(reverse.length).toBeGreaterThan(0)
    expect(Math.min(...reverse)).toBeGreaterThan(loss)
  })
})
