import { describe, expect, it } from 'vitest'
import { createSession } from '../../src/onnx/runtime/session.js'
import { nameWeights } from '../../src/onnx/file/weight-names.js'
import { writeModel } from '../../src/onnx/file/write.js'
import { seededRng } from '../../src/base/rng.js'
import { sha256Hex } from '../../src/base/bytes.js'
import { shapeSize, type Shape } from '../../src/tensor/schema.js'
import { initialWeights } from '../../scripts/pretrain/initial-weights.js'
import { buildVit, GLYPH_VIT, type VitConfig } from '../../scripts/pretrain/vit.js'

const TINY: VitConfig = { imageSide: 6, patchSide: 3, hidden: 6, layers: 2, heads: 3, intermediate: 10, labels: 5 }

/** Weights that leave nothing at a fixed point: norms are not 1, biases are not 0. */
const anyWeights = (name: string, shape: Shape): Float32Array => {
  const rng = seededRng('any', name)
  return new Float32Array(shapeSize(shape)).map(() => rng.uniform() - 0.4)
}

type Matrix = number[][]
type Read = (name: string, ...shape: number[]) => number[]

/** The same network in plain float64 loops, written from the paper and Hugging Face's modelling code. */
function reference(config: VitConfig, read: Read, image: Float32Array): number[] {
  const { imageSide, patchSide, hidden, heads, layers, intermediate, labels } = config
  const across = imageSide / patchSide
  const linear = (x: Matrix, name: string, inputs: number, outputs: number): Matrix => {
    const [w, bias] = [read(`${name}.weight`, outputs, inputs), read(`${name}.bias`, outputs)]
    return x.map((row) => bias.map((b, o) => row.reduce((sum, value, i) => sum + value * w[o * inputs + i]!, b)))
  }
  const norm = (x: Matrix, name: string): Matrix => {
    const [w, bias] = [read(`${name}.weight`, hidden), read(`${name}.bias`, hidden)]
    return x.map((row) => {
      const mean = row.reduce((a, b) => a + b, 0) / hidden
      const variance = row.reduce((a, b) => a + (b - mean) ** 2, 0) / hidden
      return row.map((value, i) => ((value - mean) / Math.sqrt(variance + 1e-12)) * w[i]! + bias[i]!)
    })
  }
  const add = (a: Matrix, b: Matrix): Matrix => a.map((row, r) => row.map((value, c) => value + b[r]![c]!))
  const patches = Array.from({ length: across * across }, (_, p) =>
    Array.from({ length: patchSide * patchSide }, (_, i) => {
      const row = Math.floor(p / across) * patchSide + Math.floor(i / patchSide)
      return image[row * imageSide + (p % across) * patchSide + (i % patchSide)]!
    })
  )
  const places = read('vit.embeddings.position_embeddings', 1, patches.length, hidden)
  let x = linear(patches, 'vit.embeddings.patch_embeddings.projection', patchSide * patchSide, hidden)
  x = x.map((row, p) => row.map((value, i) => value + places[p * hidden + i]!))
  for (let layer = 0; layer < layers; layer++) {
    const at = `vit.encoder.layer.${layer}`
    const normed = norm(x, `${at}.layernorm_before`)
    const [q, k, v] = ['query', 'key', 'value'].map((name) =>
      linear(normed, `${at}.attention.attention.${name}`, hidden, hidden)
    ) as [Matrix, Matrix, Matrix]
    const width = hidden / heads
    const context = q.map((_, t) =>
      Array.from({ length: hidden }, (_, c) => {
        const from = Math.floor(c / width) * width
        const score = (s: number) => {
          let dot = 0
          for (let i = from; i < from + width; i++) dot += q[t]![i]! * k[s]![i]!
          return Math.exp(dot / Math.sqrt(width))
        }
        const scores = k.map((_, s) => score(s))
        const total = scores.reduce((a, b) => a + b, 0)
        return scores.reduce((sum, share, s) => sum + (share / total) * v[s]![c]!, 0)
      })
    )
    x = add(x, linear(context, `${at}.attention.output.dense`, hidden, hidden))
    const wide = linear(norm(x, `${at}.layernorm_after`), `${at}.intermediate.dense`, hidden, intermediate)
    const bent = wide.map((row) => row.map((value) => (value * (1 + erf(value / Math.SQRT2))) / 2))
    x = add(x, linear(bent, `${at}.output.dense`, intermediate, hidden))
  }
  x = norm(x, 'vit.layernorm')
  const pooled = Array.from({ length: hidden }, (_, i) => x.reduce((sum, row) => sum + row[i]!, 0) / x.length)
  return linear([pooled], 'classifier', hidden, labels)[0]!
}

/** Maclaurin series of the error function; its terms are small for the arguments met here. */
function erf(x: number): number {
  let [sum, term] = [x, x]
  for (let n = 1; n < 60; n++) {
    term *= (-x * x) / n
    sum += term / (2 * n + 1)
  }
  return (2 / Math.sqrt(Math.PI)) * sum
}

describe('the glyph transformer', () => {
  it('computes what plain loops compute, image by image', async () => {
    const session = await createSession(buildVit(TINY, anyWeights))
    const rng = seededRng('pixels')
    const data = new Float32Array(3 * 36).map(() => rng.uniform() - 0.25)
    const { logits } = await session.run({ pixel_values: { type: 'float32', shape: [3, 1, 6, 6], data } })
    await session.release()
    expect(logits!.shape).toEqual([3, 5])
    const read: Read = (name, ...shape) => Array.from(anyWeights(name, shape))
    for (let row = 0; row < 3; row++)
      for (const [i, expected] of reference(TINY, read, data.subarray(36 * row, 36 * (row + 1))).entries())
        expect(logits!.data[5 * row + i]).toBeCloseTo(expected, 4)
  })

  it('has Hugging Face module paths on its linear layers and parameters', () => {
    const graph = buildVit(GLYPH_VIT, initialWeights('s'))
    const { weights } = nameWeights(graph)
    const layer = [
      'layernorm_before',
      'attention.attention.query',
      'attention.attention.key',
      'attention.attention.value',
      'attention.output.dense',
      'layernorm_after',
      'intermediate.dense',
      'output.dense'
    ]
    const modules = [
      'vit.embeddings.patch_embeddings.projection',
      ...Array.from({ length: 4 }, (_, i) => layer.map((name) => `vit.encoder.layer.${i}.${name}`)).flat(),
      'vit.layernorm',
      'classifier'
    ]
    const names = modules.flatMap((module) => [`${module}.weight`, `${module}.bias`])
    expect([...weights.keys()].toSorted()).toEqual([...names, 'vit.embeddings.position_embeddings'].toSorted())
    expect(weights.get('vit.encoder.layer.1.intermediate.dense.weight')!.transposed).toBe(true)
    const size = Array.from(weights.values(), ({ initializer }) => shapeSize(initializer.shape))
    expect(size.reduce((a, b) => a + b, 0)).toBe(204_938)
  })

  it('starts from the same bits for the same seed', () => {
    const bytes = (seed: string) => sha256Hex(writeModel(buildVit(GLYPH_VIT, initialWeights(seed))))
    expect(bytes('a')).toBe(bytes('a'))
    expect(bytes('a')).not.toBe(bytes('b'))
    const weight = initialWeights('a')('vit.encoder.layer.0.output.dense.weight', [64, 256])
    const bound = Math.sqrt(6 / 320)
    expect(Math.max(...weight)).toBeLessThanOrEqual(bound)
    const variance = weight.reduce((sum, value) => sum + value * value, 0) / weight.length
    expect(variance / (bound * bound)).toBeCloseTo(1 / 3, 2)
  })
})
