import { describe, expect, it } from 'vitest'
import { differentiate, gradientName } from '../../../src/autodiff/backward.js'
import { attachEvaluation, attachLoss } from '../../../src/autodiff/loss.js'
import type { Batch } from '../../../src/data/batches/batch.js'
import type { Graph, Node } from '../../../src/onnx/graph/graph.js'
import { createSchema } from '../../../src/tensor/schema.js'
import { createLocalTrainer } from '../../../src/train/step/local-trainer.js'
import type { BatchShapes, BuildProgram, ProgramKind } from '../../../src/train/step/program.js'
import { MAX_SESSIONS } from '../../../src/train/step/session-cache.js'
import type { TrainerDescription } from '../../../src/train/trainer.js'

/** Softmax regression, logits = x W^T + b, with 2 classes and 3 features: its gradient has a closed form. */
const CLASSES = 2
const FEATURES = 3
const SCHEMA = createSchema([
  { name: 'weight', shape: [CLASSES, FEATURES] },
  { name: 'bias', shape: [CLASSES] }
])
const START = Float32Array.of(0.5, -1, 0.25, 3, 0.5, -0.75, 0.1, -0.2)

const description: TrainerDescription = {
  schema: SCHEMA,
  initial: START,
  inputs: [{ name: 'x', shape: ['batch', FEATURES] }],
  modelSha256: '00',
  device: { used: 'cpu' }
}

function regression({ x: shape = [] }: BatchShapes): Graph {
  const values = [
    { name: 'x', type: 'float32', shape },
    { name: 'weight', type: 'float32', shape: [CLASSES, FEATURES] },
    { name: 'bias', type: 'float32', shape: [CLASSES] },
    { name: 'logits', type: 'float32', shape: [shape[0] ?? 0, CLASSES] }
  ] as const
  const gemm: Node = {
    op: 'Gemm',
    domain: '',
    name: 'classifier',
    inputs: ['x', 'weight', 'bias'],
    outputs: ['logits'],
    attributes: { transB: { type: 'int', value: 1 } }
  }
  return {
    name: 'regression',
    opsets: { '': 20 },
    inputs: values.slice(0, 3),
    outputs: values.slice(3),
    nodes: [gemm],
    initializers: new Map(),
    values: new Map(values.map((value) => [value.name, value]))
  }
}

const parameters = SCHEMA.entries.map(({ name }) => name)

async function buildProgram(kind: ProgramKind, shapes: BatchShapes) {
  const forward = regression(shapes)
  if (kind === 'evaluate') return { graph: attachEvaluation(forward), parameters, gradients: [] }
  const { graph, loss, seeds } = attachLoss(forward)
  return {
    graph: differentiate(graph, { loss, seeds, parameters }),
    parameters,
    gradients: parameters.map(gradientName)
  }
}

const batch = (rows: number): Batch => ({
  inputs: {
    x: {
      type: 'float32',
      shape: [rows, FEATURES],
      data: Float32Array.from({ length: rows * FEATURES }, (_, i) => ((i * 7) % 5) / 2 - 1)
    }
  },
  labels: { shape: [rows], data: Int32Array.from({ length: rows }, (_, i) => (i * 3) % CLASSES) }
})

/** By the definition, in double precision. */
function closedForm(theta: ArrayLike<number>, { inputs, labels }: Batch) {
  const x = inputs.x?.data ?? []
  const rows = labels.data.length
  const gradients = new Float64Array(SCHEMA.size)
  let loss = 0
  for (let row = 0; row < rows; row++) {
    const z = Array.from({ length: CLASSES }, (_, c) => {
      let score = theta[CLASSES * FEATURES + c] ?? 0
      for (let f = 0; f < FEATURES; f++) score += (x[row * FEATURES + f] ?? 0) * (theta[c * FEATURES + f] ?? 0)
      return score
    })
    const logSum = Math.log(z.reduce((total, score) => total + Math.exp(score), 0))
    const label = labels.data[row] ?? 0
    loss += (logSum - (z[label] ?? 0)) / rows
    for (const [c, score] of z.entries()) {
      const d = (Math.exp(score - logSum) - (c === label ? 1 : 0)) / rows
      gradients[CLASSES * FEATURES + c] = (gradients[CLASSES * FEATURES + c] ?? 0) + d
      for (let f = 0; f < FEATURES; f++)
        gradients[c * FEATURES + f] = (gradients[c * FEATURES + f] ?? 0) + d * (x[row * FEATURES + f] ?? 0)
    }
  }
  return { loss, gradients }
}

const trainer = (build: BuildProgram = buildProgram) => createLocalTrainer({ description, buildProgram: build })

describe('local trainer', () => {
  it('follows gradient descent in closed form', async () => {
    const local = trainer()
    const theta = START.slice()
    const reference = Float64Array.from(START)
    for (let step = 0; step < 8; step++) {
      const example = batch(step % 2 === 0 ? 4 : 3)
      const { loss, gradients } = await local.step(theta, example)
      const expected = closedForm(reference, example)
      expect(loss).toBeCloseTo(expected.loss, 5)
      for (const [i, gradient] of gradients.entries()) {
        expect(gradient).toBeCloseTo(expected.gradients[i] ?? 0, 5)
        theta[i] = (theta[i] ?? 0) - 0.5 * gradient
        reference[i] = (reference[i] ?? 0) - 0.5 * (expected.gradients[i] ?? 0)
      }
    }
    await local.close()
  })

  it('evaluates in sums', async () => {
    const local = trainer()
    const { lossSum, count, correct } = await local.evaluate(START, batch(5))
    expect(lossSum / count).toBeCloseTo(closedForm(START, batch(5)).loss, 5)
    expect(count).toBe(5)
    expect(correct).toBeGreaterThanOrEqual(0)
    await local.close()
  })

  it('builds each kind and shape once, and again after it made room', async () => {
    const built: string[] = []
    const local = trainer((kind, shapes) => {
      built.push(`${kind} ${shapes.x}`)
      return buildProgram(kind, shapes)
    })
    for (const rows of [1, 2, 1, 2]) await local.step(START, batch(rows))
    expect(built).toEqual(['train 1,3', 'train 2,3'])
    for (let rows = 3; rows <= MAX_SESSIONS + 1; rows++) await local.step(START, batch(rows))
    await local.step(START, batch(2))
    expect(built).toHaveLength(MAX_SESSIONS + 1)
    await local.step(START, batch(1))
    expect(built.at(-1)).toBe('train 1,3')
    await local.close()
  })

  it('answers calls made at the same time one after the other', async () => {
    const local = trainer()
    const rows = Array.from({ length: 2 * MAX_SESSIONS }, (_, i) => i + 1)
    const results = await Promise.all(rows.map((count) => local.evaluate(START, batch(count))))
    expect(results.map(({ count }) => count)).toEqual(rows)
    await local.close()
  })

  it('refuses what does not fit, and works on', async () => {
    const local = trainer()
    const good = batch(2)
    const failure = (parametersGiven: Float32Array, given: Batch) => local.step(parametersGiven, given).catch((e) => e)
    expect(await failure(new Float32Array(3), good)).toMatchObject({ code: 'train/wrong-parameters' })
    const extra = { ...good, inputs: { ...good.inputs, mask: { type: 'int64', shape: [1], data: Int32Array.of(1) } } }
    expect(await failure(START, extra as Batch)).toMatchObject({ code: 'train/wrong-input', facts: { name: 'mask' } })
    expect(await failure(START, { ...good, inputs: {} })).toMatchObject({
      code: 'train/wrong-input',
      facts: { name: 'x' }
    })
    const short = { ...good, labels: { shape: [2], data: Int32Array.of(1) } }
    expect(await failure(START, short)).toMatchObject({ code: 'train/wrong-input', facts: { name: 'labels' } })
    const misaligned = { ...good, labels: { shape: [3], data: Int32Array.of(1, 0, 1) } }
    expect(await failure(START, misaligned)).toMatchObject({ code: 'train/wrong-input', facts: { name: 'labels' } })
    expect(
      await failure(
        START.map(() => Number.NaN),
        good
      )
    ).toMatchObject({ code: 'train/non-finite-loss' })
    expect((await local.step(START, good)).loss).toBeCloseTo(closedForm(START, good).loss, 5)
    await local.close()
  })
})
