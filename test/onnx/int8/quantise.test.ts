import { describe, expect, it } from 'vitest'
import { nameModel } from '../../../src/onnx/canonical/canonicalise.js'
import { floatConstant, floatValues } from '../../../src/onnx/graph/constant.js'
import { quantiseLinears } from '../../../src/onnx/int8/quantise.js'
import { createSession, type SessionTensor } from '../../../src/onnx/runtime/session.js'
import { smallGraph, wave } from '../small-graph.js'

const [ROWS, IN, OUT] = [3, 40, 5]
const weights = (salt: number): Float32Array => Float32Array.from({ length: IN * OUT }, (_, i) => wave(i + salt))

/** y = relu(x A^T + b) through a MatMul with an [in, out] weight, logits = y' C with C [out, in] by transB. */
const model = () =>
  nameModel(
    smallGraph({
      inputs: { x: [ROWS, IN] },
      constants: [
        floatConstant('val_1', weights(0), [IN, OUT]),
        floatConstant(
          'body.up.bias',
          Float32Array.from({ length: OUT }, (_, i) => wave(i))
        ),
        floatConstant('body.down.weight', weights(70), [IN, OUT]),
        floatConstant(
          'body.down.bias',
          Float32Array.from({ length: IN }, (_, i) => wave(i + 9))
        ),
        floatConstant('classifier.weight', weights(3), [OUT, IN])
      ],
      nodes: [
        { op: 'MatMul', in: ['x', 'val_1'], out: ['u'], name: '/body/up/MatMul', module: 'body.up' },
        { op: 'Add', in: ['u', 'body.up.bias'], out: ['v'], name: '/body/up/Add', module: 'body.up' },
        {
          op: 'Gemm',
          in: ['v', 'body.down.weight', 'body.down.bias'],
          out: ['w'],
          name: '/body/down/Gemm',
          module: 'body.down',
          attributes: { transB: { type: 'int', value: 1 } }
        },
        {
          op: 'Gemm',
          in: ['w', 'classifier.weight'],
          out: ['logits'],
          name: '/classifier/Gemm',
          module: 'classifier',
          attributes: { transB: { type: 'int', value: 1 } }
        }
      ],
      output: 'logits'
    })
  )

const read = (initializer: Parameters<typeof floatValues>[0]) => Float32Array.from(floatValues(initializer))
const x: SessionTensor = {
  type: 'float32',
  shape: [ROWS, IN],
  data: Float32Array.from({ length: ROWS * IN }, (_, i) => wave(2 * i + 5))
}

async function logitsOf(graph: Parameters<typeof createSession>[0]): Promise<Float32Array> {
  const session = await createSession(graph)
  const { logits } = await session.run({ x })
  await session.release()
  return logits?.data as Float32Array
}

const size = (values: Float32Array): number => Math.sqrt(values.reduce((sum, value) => sum + value * value, 0))

describe('quantising linear layers', () => {
  it.each([
    [4, 0.12],
    [8, 0.012]
  ] as const)('in %i bits changes the logits as the runtime computes them by little', async (bits, bound) => {
    const base = model()
    const { graph, layers } = quantiseLinears(base, { bits, read })
    expect(graph.nodes.map(({ op }) => op)).toEqual(['MatMulNBits', 'Add', 'MatMulNBits', 'Add', 'Gemm'])
    expect(layers.map(({ module }) => module)).toEqual(['body.up', 'body.down'].map((name) => layerName(name, base)))
    for (const { relativeError } of layers) expect(relativeError).toBeLessThan(bits === 4 ? 0.1 : 0.006)
    const [want, got] = [await logitsOf(base.graph), await logitsOf(graph)]
    const difference = want.map((value, i) => value - (got[i] as number))
    expect(size(difference) / size(want)).toBeLessThan(bound)
    expect(size(difference)).toBeGreaterThan(0)
  })

  it('keeps what it is told to, and can take the head too', () => {
    const ops = (keep: readonly string[]) =>
      quantiseLinears(model(), { bits: 4, read, keep }).graph.nodes.filter(({ op }) => op === 'MatMulNBits').length
    expect(ops([])).toBe(3)
    expect(ops(['down', 'classifier'])).toBe(1)
  })

  it('leaves a block of zeros zero', async () => {
    const base = model()
    const { graph } = quantiseLinears(base, {
      bits: 4,
      read: ({ shape }) => new Float32Array((shape[0] ?? 0) * (shape[1] ?? 0))
    })
    const scales = [...graph.initializers.values()].filter(({ name }) => name.endsWith('.scales'))
    expect(scales.flatMap((constant) => floatValues(constant)).every((scale) => Math.abs(scale) === 0)).toBe(true)
    expect((await logitsOf(graph)).every(Number.isFinite)).toBe(true)
  })
})

const layerName = (path: string, { weights: named }: ReturnType<typeof model>): string =>
  [...named.values()].find(({ module }) => path.endsWith(module))?.module ?? path
