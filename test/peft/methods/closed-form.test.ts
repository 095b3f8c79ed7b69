import { describe, expect, it } from 'vitest'
import type { PeftSpec } from '../../../src/base/peft-spec.js'
import { seededRng } from '../../../src/base/rng.js'
import type { SessionTensor } from '../../../src/onnx/runtime/session.js'
import { createMethod } from '../../../src/peft/create-method.js'
import { viewOf } from '../../../src/tensor/schema.js'
import { evaluate, float, wave } from '../../onnx/small-graph.js'
import { smallModel, values } from '../small-model.js'

/** The small model and every method on it once more, in float64 and from the formulas of the papers alone. */
type Matrix = readonly (readonly number[])[]
type Layer = (h: readonly number[]) => number[]

const matrix = (rows: number, columns: number, at: (row: number, column: number) => number): Matrix =>
  Array.from({ length: rows }, (_, row) => Array.from({ length: columns }, (_, column) => at(row, column)))
const multiply = (a: Matrix, b: Matrix): Matrix =>
  matrix(a.length, b[0]?.length ?? 0, (i, j) =>
    b.reduce((sum, row, k) => sum + (a[i]?.[k] as number) * (row[j] as number), 0)
  )
const plus = (a: Matrix, b: Matrix, scale = 1): Matrix =>
  matrix(a.length, a[0]?.length ?? 0, (i, j) => (a[i]?.[j] as number) + scale * (b[i]?.[j] as number))
const apply =
  (w: Matrix, bias: readonly number[] = []): Layer =>
  (h) =>
    w.map((row, o) => row.reduce((sum, value, i) => sum + value * (h[i] as number), bias[o] ?? 0))

const UP = 'layers.0.up'
const DOWN = 'layers.0.down'
const flat = { up: values(24), down: values(24, 50) }
/** As Hugging Face has them, [out, in]. */
const WEIGHTS: Readonly<Record<string, Matrix>> = {
  [UP]: matrix(6, 4, (o, i) => flat.up[i * 6 + o] as number),
  [DOWN]: matrix(4, 6, (o, i) => flat.down[i * 4 + o] as number)
}
const BIASES: Readonly<Record<string, readonly number[]>> = { [UP]: [], [DOWN]: [...values(4, 90)] }
const classifier = apply(
  matrix(3, 4, (o, i) => values(12, 120)[o * 4 + i] as number),
  [...values(3, 150)]
)

/** Logits of both examples: up, tanh, down, the mean of three positions, classifier. */
function forward(layerOf: (path: string) => Layer): number[] {
  const [up, down] = [layerOf(UP), layerOf(DOWN)]
  return [0, 1].flatMap((example) => {
    const rows = [0, 1, 2].map((position) => {
      const h = Array.from({ length: 4 }, (_, i) => Math.fround(wave((example * 3 + position) * 4 + i)))
      return down(up(h).map(Math.tanh))
    })
    return classifier(matrix(1, 4, (_, o) => rows.reduce((sum, row) => sum + (row[o] as number) / 3, 0))[0] as number[])
  })
}

const common = { head: [], seed: 'a seed' }
const targets = [UP, DOWN]
const lowRank = { rank: 2, alpha: 3, targets, ...common }
/** alpha / rank */
const SCALE = 1.5

/** Named values of a method, frozen ones among them, as matrices. */
type Named = (name: string) => Matrix

const heads =
  (count: number) =>
  (path: string, named: Named): Layer => {
    const [a, b, core] = [named(`${path}.core_A.weight`), named(`${path}.core_B.weight`), named(`${path}.lora_core`)]
    const parts = Array.from({ length: count }, (_, head) => {
      const rows = [2 * head, 2 * head + 1]
      const r = rows.map((row) => (core[row] ?? []).slice(0, 2))
      const left = b.map((row) => rows.map((column) => row[column] as number))
      return multiply(
        multiply(left, r),
        rows.map((row) => a[row] as readonly number[])
      )
    })
    const weight = parts.reduce((sum, part) => plus(sum, part, SCALE), WEIGHTS[path] as Matrix)
    return apply(weight, BIASES[path])
  }

function dora(path: string, named: Named): Layer {
  const update = multiply(named(`${path}.lora_B.weight`), named(`${path}.lora_A.weight`))
  const direction = plus(WEIGHTS[path] as Matrix, update, SCALE)
  const magnitude = named(`${path}.lora_magnitude_vector`)
  const weight = direction.map((row, o) => {
    const norm = Math.sqrt(row.reduce((sum, value) => sum + value ** 2, 0))
    return row.map((value) => ((magnitude[o]?.[0] as number) * value) / norm)
  })
  return apply(weight, BIASES[path])
}

/** By magnitude: 7 of 24 elements, the largest, in the order of [out, in]. */
function masked(path: string, named: Named): Layer {
  const weight = WEIGHTS[path] as Matrix
  const columns = weight[0]?.length ?? 0
  const all = weight.flat()
  const delta = named(`${path}.sparse_delta`).flat()
  const largest = all.map((_, place) => place).sort((a, b) => Math.abs(all[b] as number) - Math.abs(all[a] as number))
  const places = largest.slice(0, delta.length).sort((a, b) => a - b)
  const at = new Map(places.map((place, index) => [place, delta[index] as number]))
  return apply(
    matrix(weight.length, columns, (o, i) => (weight[o]?.[i] as number) + (at.get(o * columns + i) ?? 0)),
    BIASES[path]
  )
}

/** h + up(relu(down(h))) behind the layer. */
function bottleneck(path: string, named: Named): Layer {
  const base = apply(WEIGHTS[path] as Matrix, BIASES[path])
  const [down, up] = ['down', 'up'].map((part) =>
    apply(named(`${path}.adapter_${part}.weight`), named(`${path}.adapter_${part}.bias`).flat())
  ) as [Layer, Layer]
  return (x) => {
    const h = base(x)
    const added = up(down(h).map((value) => Math.max(0, value)))
    return h.map((value, o) => value + (added[o] as number))
  }
}

const METHODS: readonly (readonly [PeftSpec, (path: string, named: Named) => Layer])[] = [
  [{ method: 'dora', ...lowRank }, dora],
  [{ method: 'lora-xs', ...lowRank, heads: 1 }, heads(1)],
  [{ method: 'ravan', ...lowRank, heads: 2 }, heads(2)],
  [{ method: 'sparse', targets, density: 0.3, mask: 'magnitude', ...common }, masked],
  [{ method: 'bottleneck', placement: 'pfeiffer', targets, width: 3, activation: 'relu', ...common }, bottleneck]
]

describe('what a method computes is what its formula says', () => {
  it.each(METHODS.map(([spec, layer]) => [spec.method, spec, layer] as const))('%s', async (_, spec, layerOf) => {
    const { base, canonical } = await smallModel({ smooth: true })
    const method = createMethod(spec, base, { kind: 'sequence-classification', labels: ['a', 'b', 'c'] })
    const rng = seededRng('closed form')
    const parameters = method.initial.map((value) => value + 0.9 * (rng.uniform() - 0.5))
    const trained = method.schema.entries.map(
      (entry) => [entry.name, { shape: entry.shape, values: viewOf(parameters, entry) }] as const
    )
    const all = new Map([...trained, ...method.frozen.map((one) => [one.name, one] as const)])
    const named: Named = (name) => {
      const found = all.get(name)
      if (found === undefined) throw new Error(`no ${name} among ${[...all.keys()].join(', ')}`)
      const columns = found.shape.length === 1 ? 1 : (found.shape.at(-1) as number)
      return matrix(
        found.values.length / columns,
        columns,
        (row, column) => found.values[row * columns + column] as number
      )
    }
    const feeds = Object.fromEntries(
      trained.map(([name, { shape, values: data }]) => [name, { type: 'float32', shape, data } satisfies SessionTensor])
    )
    const { logits } = await evaluate(method.rewrite(canonical), { x: float([2, 3, 4], wave), ...feeds })
    const expected = forward((path) => layerOf(path, named))
    const plain = forward((path) => apply(WEIGHTS[path] as Matrix, BIASES[path]))
    const distance = (other: readonly number[]) =>
      other.reduce((worst, value, i) => Math.max(worst, Math.abs(value - (logits?.data[i] as number))), 0)
    expect(logits?.data).toHaveLength(expected.length)
    expect(distance(expected)).toBeLessThan(2e-6)
    expect(distance(plain)).toBeGreaterThan(0.01)
  })
})
