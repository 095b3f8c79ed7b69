import { expect } from 'vitest'
import { differentiate, gradientName } from '../../src/autodiff/backward.js'
import { seededRng } from '../../src/base/rng.js'
import { boolConstant, floatConstant, intConstant } from '../../src/onnx/graph/constant.js'
import type { Attribute, Graph, Initializer, ValueInfo } from '../../src/onnx/graph/graph.js'
import { createSession, type SessionTensor } from '../../src/onnx/runtime/session.js'
import { type NDArray, nd, sizeOf } from './reference.js'

/** Constant inputs by their position. */
export type ConstantInput =
  | { readonly ints: readonly number[]; readonly shape?: readonly number[] }
  | { readonly floats: readonly number[]; readonly shape?: readonly number[] }
  | { readonly bools: readonly boolean[]; readonly shape: readonly number[] }
  | { readonly absent: true }

export interface GradientCase {
  readonly op: string
  readonly domain?: string
  readonly opset?: number
  readonly attributes?: Readonly<Record<string, Attribute>>
  /** Floating-point inputs are differentiated, all of them. */
  readonly inputs: readonly (NDArray | ConstantInput)[]
  /** The op in double precision; gets the floating-point inputs in order. */
  readonly forward: (...floats: readonly NDArray[]) => NDArray | readonly NDArray[]
}

/** Half the step of the central difference: error about 1e-10 in double precision. */
const STEP = 1e-5
/** float32 rounding through a handful of nodes, relative to the largest entry. */
const TOLERANCE = 3e-6

/** Seeded values in [low, high). */
export function random(shape: readonly number[], { seed = 'x', low = -1.5, high = 1.5 } = {}): NDArray {
  const rng = seededRng('gradient-check', seed, ...shape)
  // Rounded to float32, so that both precisions start from the same numbers.
  return nd(
    shape,
    Array.from({ length: sizeOf(shape) }, () => Math.fround(low + (high - low) * rng.uniform()))
  )
}

export const int = (value: number): Attribute => ({ type: 'int', value })
export const ints = (...value: number[]): Attribute => ({ type: 'ints', value })
export const float = (value: number): Attribute => ({ type: 'float', value })
export const text = (value: string): Attribute => ({ type: 'string', value })

const isFloat = (input: NDArray | ConstantInput): input is NDArray => 'data' in input

/**
 * Runs the op and its derivative in onnxruntime and compares the output with `forward` and every gradient of
 * sum(R * output), R random, with central differences of `forward` in double precision.
 */
export async function checkGradients(test: GradientCase): Promise<void> {
  const floats = test.inputs.filter(isFloat)
  const outputs = outputsOf(test, floats)
  const weights = outputs.map((output, index) => random(output.shape, { seed: `R${index}` }))
  const graph = graphOf(test, outputs)
  const names = test.inputs.flatMap((input, index) => (isFloat(input) ? [`x${index}`] : []))
  const seeds = new Map(outputs.map((_, index) => [`y${index}`, `R${index}`]))
  const keep = outputs.map((_, index) => `y${index}`)
  const derived = differentiate(graph, { loss: 'y0', parameters: names, seeds, keep: keep.slice(1) })
  const session = await createSession(derived)
  const feeds: Record<string, SessionTensor> = {}
  for (const [index, x] of floats.entries()) feeds[names[index] as string] = tensorOf(x)
  for (const [index, weight] of weights.entries()) feeds[`R${index}`] = tensorOf(weight)
  const results = await session.run(feeds)
  await session.release()

  for (const [index, output] of outputs.entries()) expectClose(`y${index}`, results[`y${index}`], output)
  for (const [index, x] of floats.entries())
    expectClose(`gradient of ${names[index]}`, results[gradientName(names[index] as string)], numeric(x, index))

  function numeric(x: NDArray, index: number): NDArray {
    const objective = (moved: NDArray): number =>
      outputsOf(test, floats.with(index, moved))
        .map((output, o) => output.data.reduce((total, y, i) => total + y * (weights[o]?.data[i] ?? 0), 0))
        .reduce((total, part) => total + part)
    const shifted = (i: number, by: number): number => objective(nd(x.shape, x.data.with(i, (x.data[i] ?? 0) + by)))
    return nd(
      x.shape,
      x.data.map((_, i) => (shifted(i, STEP) - shifted(i, -STEP)) / (2 * STEP))
    )
  }
}

function outputsOf({ forward }: GradientCase, floats: readonly NDArray[]): readonly NDArray[] {
  const result = forward(...floats)
  return 'data' in result ? [result] : result
}

const tensorOf = ({ shape, data }: NDArray): SessionTensor => ({
  type: 'float32',
  shape,
  data: Float32Array.from(data)
})

function graphOf(test: GradientCase, outputs: readonly NDArray[]): Graph {
  const info = (name: string, { shape }: NDArray): ValueInfo => ({ name, type: 'float32', shape })
  const inputs = test.inputs.flatMap((input, index) => (isFloat(input) ? [info(`x${index}`, input)] : []))
  const weights = outputs.map((output, index) => info(`R${index}`, output))
  const results = outputs.map((output, index) => info(`y${index}`, output))
  const names = test.inputs.map((input, index) => ('absent' in input ? '' : `x${index}`))
  const constants = test.inputs.flatMap((input, index) => constantOf(`x${index}`, input))
  return {
    name: test.op,
    opsets: { '': test.opset ?? 20, 'com.microsoft': 1 },
    inputs: [...inputs, ...weights],
    outputs: results,
    nodes: [
      {
        op: test.op,
        domain: test.domain ?? '',
        name: 'node',
        inputs: names,
        outputs: results.map(({ name }) => name),
        attributes: test.attributes ?? {}
      }
    ],
    initializers: new Map(constants.map((constant) => [constant.name, constant])),
    values: new Map([...inputs, ...weights, ...results].map((value) => [value.name, value]))
  }
}

function constantOf(name: string, input: NDArray | ConstantInput): Initializer[] {
  if (isFloat(input) || 'absent' in input) return []
  if ('floats' in input) return [floatConstant(name, input.floats, input.shape ?? [])]
  return ['ints' in input ? intConstant(name, input.ints, input.shape) : boolConstant(name, input.bools, input.shape)]
}

/** max |got - expected| <= TOLERANCE * max |expected|, and the same shape. */
export function expectClose(what: string, got: SessionTensor | undefined, expected: NDArray): void {
  expect(got?.shape, `shape of ${what}`).toEqual(expected.shape)
  const scale = Math.max(...expected.data.map(Math.abs), 1e-3)
  const worst = Math.max(...expected.data.map((value, i) => Math.abs(value - (got?.data[i] ?? Number.NaN))))
  expect(worst / scale, `relative error of ${what}`).toBeLessThan(TOLERANCE)
}
