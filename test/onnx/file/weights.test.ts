import { mkdtemp, readdir, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { floatConstant } from '../../../src/onnx/graph/constant.js'
import type { Graph } from '../../../src/onnx/graph/graph.js'
import { readWeight, SHARED_WEIGHT_BYTES, shareWeights } from '../../../src/onnx/file/weights.js'
import { evaluate, float, largestDifference, smallGraph, wave } from '../small-graph.js'

const SIDE = 160
const big = Float32Array.from({ length: SIDE * SIDE }, (_, index) => wave(index))

const graph = smallGraph({
  inputs: { x: [2, SIDE] },
  constants: [floatConstant('w', big, [SIDE, SIDE]), floatConstant('b', big.slice(0, SIDE))],
  nodes: [{ op: 'Gemm', in: ['x', 'w', 'b'], out: ['y'] }],
  output: 'y'
})

describe('shared weights', () => {
  let cacheDir: string
  beforeAll(async () => {
    cacheDir = await mkdtemp(join(tmpdir(), 'peertune-weights-'))
  })
  afterAll(() => rm(cacheDir, { recursive: true }))
  const options = () => ({ modelPath: '/elsewhere/model.onnx', sha256: 'ab12', cacheDir })

  it('eight at once leave one file, and the graph computes the same', async () => {
    const shared = await Promise.all(Array.from({ length: 8 }, () => shareWeights(graph, options())))
    expect(await readdir(cacheDir)).toEqual(['ab12.weights'])
    const [{ graph: first, externalDir } = { graph, externalDir: '' }] = shared
    expect(first.initializers.get('w')?.data.kind).toBe('external')
    expect(first.initializers.get('b')?.data.kind).toBe('inline')
    const feeds = { x: float([2, SIDE], wave) }
    const [before, after] = [await evaluate(graph, feeds), await evaluate(first, feeds, externalDir)]
    expect(largestDifference(before.y, after.y)).toBe(0)
  })

  it('reads a weight back bit for bit, and leaves a whole file alone', async () => {
    const before = await stat(join(cacheDir, 'ab12.weights'))
    const { graph: shared, externalDir } = await shareWeights(graph, options())
    expect(readWeight(shared.initializers.get('w') as never, externalDir)).toEqual(big)
    expect((await stat(join(cacheDir, 'ab12.weights'))).ino).toBe(before.ino)
  })

  it('leaves small models and models with a data file of their own as they are', async () => {
    const small: Graph = { ...graph, initializers: new Map([['b', floatConstant('b', [1, 2])]]) }
    expect((await shareWeights(small, { ...options(), sha256: 'cd' })).graph.initializers).toEqual(small.initializers)
    const data = { kind: 'external', location: 'model.data', offset: 0, length: 2 * SHARED_WEIGHT_BYTES } as const
    const external: Graph = {
      ...graph,
      initializers: new Map([['w', { name: 'w', type: 'float32', shape: [2, SHARED_WEIGHT_BYTES / 4], data }]])
    }
    expect(await shareWeights(external, options())).toEqual({ graph: external, externalDir: '/elsewhere' })
    expect(await readdir(cacheDir)).toEqual(['ab12.weights'])
  })

  it.each(['../secret', '/etc/passwd', 'a/../../b'])('refuses weights at %s', (location) => {
    const data = { kind: 'external', location, offset: 0, length: 4 } as const
    expect(() => readWeight({ name: 'w', type: 'float32', shape: [1], data }, cacheDir)).toThrowError(
      expect.objectContaining({ code: 'onnx/weights-outside' })
    )
  })

  it('says which data file is missing or too short', () => {
    for (const location of ['gone.data', 'ab12.weights']) {
      const data = { kind: 'external', location, offset: 10 ** 9, length: 4 } as const
      expect(() => readWeight({ name: 'w', type: 'float32', shape: [1], data }, cacheDir)).toThrowError(
        expect.objectContaining({ code: 'onnx/missing-weights', facts: { path: join(cacheDir, location) } })
      )
    }
  })
})
