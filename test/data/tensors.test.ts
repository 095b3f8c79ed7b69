import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import type { TaskSpec } from '../../src/base/federation.js'
import { openDataset } from '../../src/data/source.js'
import type { TensorsSpec } from '../../src/data/spec.js'
import { openTensor } from '../../src/data/formats/tensor-file.js'
import { writeSafetensors } from '../../src/tensor/safetensors.js'
import { npy, temporaryFolder } from './fixtures.js'

const GOLDEN = join(import.meta.dirname, 'golden', 'tensors')

const FEATURES = Float32Array.from({ length: 24 }, (_, i) => i / 4 - 2)
const CLASSES: TaskSpec = { kind: 'sequence-classification', labels: ['low', 'high'] }

async function files(given: Readonly<Record<string, Buffer | Uint8Array>> = {}) {
  const folder = await temporaryFolder()
  const all = {
    'x.npy': npy('<f4', [4, 2, 3], FEATURES),
    'mask.npy': npy('<i8', [4, 2], BigInt64Array.from([1n, 0n, 1n, 1n, 0n, 1n, 1n, 0n])),
    'y.npy': npy('<i8', [4], BigInt64Array.from([1n, 0n, 0n, 1n])),
    'z.npy': npy('<f8', [4, 1], Float64Array.from([0.5, -1.25, 3, 8])),
    ...given
  }
  for (const [name, content] of Object.entries(all)) {
    await mkdir(join(folder, name, '..'), { recursive: true })
    await writeFile(join(folder, name), content)
  }
  return (name: string) => join(folder, name)
}

const model = {
  inputs: [
    { name: 'features', shape: ['batch', 'time', 3], type: 'float32' },
    { name: 'mask', shape: ['batch', 'time'], type: 'int64' }
  ]
}

const spec = (at: (name: string) => string, more: Partial<TensorsSpec> = {}): TensorsSpec => ({
  kind: 'tensors',
  inputs: { features: at('x.npy'), mask: at('mask.npy') },
  labels: at('y.npy'),
  seed: 's',
  heldOut: 0,
  ...more
})

describe('a tensor in a file', () => {
  // Written by numpy 2.4 and safetensors 0.8: rows [[1.5, -2], [0.25, 3]] in every type that can hold them.
  it.each([
    ['f2.npy', 'float16'],
    ['f4.npy', 'float32'],
    ['f8.npy', 'float64'],
    ['all.safetensors#f16', 'float16'],
    ['all.safetensors#bf16', 'bfloat16'],
    ['all.safetensors#f32', 'float32']
  ])('is read as its writer meant it: %s', async (name, type) => {
    const file = await openTensor(join(GOLDEN, name))
    expect({ type: file.type, shape: file.shape, isFloat: file.isFloat }).toEqual({
      type,
      shape: [2, 2],
      isFloat: true
    })
    expect([file.row(0), file.row(1)].map((row) => [...row])).toEqual([
      [1.5, -2],
      [0.25, 3]
    ])
    file.close()
  })

  it.each([
    ['i1.npy', 'int8'],
    ['i2.npy', 'int16'],
    ['i4.npy', 'int32'],
    ['i8.npy', 'int64'],
    ['all.safetensors#i32', 'int32'],
    ['all.safetensors#i64', 'int64']
  ])('whole numbers, too: %s', async (name, type) => {
    const file = await openTensor(join(GOLDEN, name))
    expect(file.type).toBe(type)
    expect([...file.row(1)]).toEqual([7, -100])
    file.close()
  })

  it.each([
    ['f4-fortran.npy', 'Fortran order'],
    ['c8.npy', '<c8'],
    ['all.safetensors', 'none'],
    ['all.safetensors#nothing', 'nothing'],
    ['u1-big-endian.npy', '>i4']
  ])('is refused where it cannot be meant: %s', async (name, got) => {
    await expect(openTensor(join(GOLDEN, name))).rejects.toMatchObject({
      code: 'data/bad-tensor',
      facts: { file: join(GOLDEN, name), got: expect.stringContaining(got) }
    })
  })

  it('must be as long as its header says, whatever that promises', async () => {
    const at = await files({
      'short.npy': npy('<f4', [1_000_000, 1_000_000], FEATURES),
      'scalar.npy': npy('<f4', [], FEATURES.subarray(0, 1)),
      'none.npy': Buffer.from('nothing'),
      'none.safetensors': Buffer.from('nothing at all, but longer than a header')
    })
    for (const name of ['short.npy', 'scalar.npy', 'none.npy', 'none.safetensors'])
      await expect(openTensor(at(name))).rejects.toMatchObject({ code: 'data/bad-tensor' })
    await expect(openTensor(at('absent.npy'))).rejects.toMatchObject({ code: 'data/no-file' })
  })
})

describe('a dataset of tensors', () => {
  it('fills the inputs of a model by name, with a label each', async () => {
    const data = await openDataset(spec(await files()), CLASSES, model)
    const { inputs, labels } = data.batches(4).next()
    expect(inputs.features).toMatchObject({ type: 'float32', shape: [4, 2, 3] })
    expect(inputs.mask).toMatchObject({ type: 'int64', shape: [4, 2] })
    // Row r begins with r * 1.5 - 2; masks and labels as above.
    for (let i = 0; i < 4; i++) {
      const row = (inputs.features!.data[6 * i]! + 2) / 1.5
      expect([...inputs.features!.data.subarray(6 * i, 6 * i + 6)]).toEqual([
        ...FEATURES.subarray(6 * row, 6 * row + 6)
      ])
      expect([...inputs.mask!.data.subarray(2 * i, 2 * i + 2)]).toEqual(
        [
          [1, 0],
          [1, 1],
          [0, 1],
          [1, 0]
        ][row]
      )
      expect(labels.data[i]).toBe([1, 0, 0, 1][row])
    }
    expect(data.summary?.labels?.map(({ training }) => training)).toEqual([2, 2])
    data.close?.()
  })

  it('gives numbers to a regression, and fills the last batch with rows that do not count', async () => {
    const at = await files()
    const data = await openDataset(spec(at, { labels: at('z.npy'), heldOut: 0.5 }), { kind: 'regression' }, model)
    const held = [...data.evaluation(8)][0]!
    const counted = [...held.labels.data].filter((label) => !Number.isNaN(label))
    expect(held.labels.shape).toEqual([8])
    expect(counted.length + data.size).toBe(4)
    expect(counted.every((label) => [0.5, -1.25, 3, 8].includes(label))).toBe(true)
    expect([...held.inputs.mask!.data].slice(-2)).toEqual([...held.inputs.mask!.data].slice(0, 2))
  })

  it('takes pixels for floats, one label a step, and tensors by name in one file', async () => {
    const bytes = Uint8Array.from({ length: 24 }, (_, i) => i)
    const at = await files({
      'x.npy': npy('|u1', [4, 2, 3], bytes),
      'y.npy': npy('<i4', [4, 2], Int32Array.from([0, 1, -100, 1, 1, 1, 0, 0])),
      'all.safetensors': writeSafetensors([{ name: 'mel', shape: [4, 2, 3], data: FEATURES }])
    })
    const words = await openDataset(spec(at), { kind: 'token-classification', labels: ['O', 'X'] }, model)
    const { inputs, labels } = words.batches(2).next()
    expect(inputs.features!.data).toBeInstanceOf(Float32Array)
    expect(labels.shape).toEqual([2, 2])
    const named = await openDataset(
      spec(at, { inputs: { features: `${at('all.safetensors')}#mel`, mask: at('mask.npy') }, labels: at('z.npy') }),
      { kind: 'regression' },
      model
    )
    expect([...named.batches(4).next().inputs.features!.data].toSorted((a, b) => a - b)).toEqual([...FEATURES])
  })

  it.each([
    ['another number of rows', { 'y.npy': npy('<i8', [3], new BigInt64Array(3)) }, '4 rows'],
    ['a label beyond the task', { 'y.npy': npy('<i8', [4], BigInt64Array.from([0n, 1n, 2n, 0n])) }, 'labels below 2'],
    ['labels that are floats', { 'y.npy': npy('<f4', [4], new Float32Array(4)) }, 'whole numbers'],
    ['several labels a row', { 'y.npy': npy('<i4', [4, 2], new Int32Array(8)) }, 'one label a row'],
    ['rows of another shape', { 'x.npy': npy('<f4', [4, 3, 2], FEATURES) }, 'rows of [time,3]'],
    [
      'floats for whole numbers',
      { 'mask.npy': npy('<f4', [4, 2], new Float32Array(8)) },
      'whole numbers for the input mask'
    ]
  ])('names the file, what was expected and got: %s', async (_, given, expected) => {
    await expect(openDataset(spec(await files(given)), CLASSES, model)).rejects.toMatchObject({
      code: 'data/bad-tensor',
      facts: { file: expect.stringContaining('.npy'), expected: expect.stringContaining(expected) }
    })
  })

  it('refuses inputs that the model has not, and tasks without labels', async () => {
    const at = await files()
    await expect(openDataset(spec(at, { inputs: { features: at('x.npy') } }), CLASSES, model)).rejects.toMatchObject({
      code: 'data/model-mismatch',
      facts: { expected: ['features', 'mask'], got: ['features'] }
    })
    await expect(openDataset(spec(at), { kind: 'causal-lm' }, model)).rejects.toMatchObject({ code: 'data/wrong-task' })
  })
})

describe('held-out tensors of their own', () => {
  const test = {
    'test/x.npy': npy('<f4', [2, 2, 3], FEATURES.subarray(12)),
    'test/mask.npy': npy('<i8', [2, 2], BigInt64Array.from([0n, 1n, 1n, 0n])),
    'test/y.npy': npy('<i8', [2], BigInt64Array.from([1n, 1n]))
  }

  it('come from files of the same names in another folder, all of them, and nothing else is held out', async () => {
    const at = await files(test)
    const data = await openDataset(spec(at, { testPath: at('test'), heldOut: 0.5 }), CLASSES, model)
    const held = [...data.evaluation(2)]
    expect(data.size).toBe(4)
    expect(held).toHaveLength(1)
    expect([...held[0]!.inputs.features!.data]).toEqual([...FEATURES.subarray(12)])
    expect([...held[0]!.inputs.mask!.data]).toEqual([0, 1, 1, 0])
    expect([...held[0]!.labels.data]).toEqual([1, 1])
    expect(data.summary).toMatchObject({
      training: 4,
      heldOut: 2,
      labels: [
        { name: 'low', training: 2, heldOut: 0 },
        { name: 'high', training: 2, heldOut: 2 }
      ]
    })
    data.close?.()
  })

  it('are the same on every peer of a split', async () => {
    const at = await files(test)
    const split = { by: 'iid', peers: 2, peer: 1 } as const
    const data = await openDataset(spec(at, { testPath: at('test'), split }), CLASSES, model)
    expect(data.size).toBe(2)
    expect([...data.evaluation(4)].flatMap(({ labels }) => [...labels.data].filter((label) => label >= 0))).toEqual([
      1, 1
    ])
    data.close?.()
  })

  it('come from tensors of the same names where all lie in one file', async () => {
    const columns = (features: Float32Array) => {
      const rows = features.length / 6
      return writeSafetensors([
        { name: 'x', shape: [rows, 2, 3], data: features },
        { name: 'y', shape: [rows], data: Float32Array.from({ length: rows }, (_, i) => i - 0.5) }
      ])
    }
    const at = await files({ 'a.safetensors': columns(FEATURES), 'b.safetensors': columns(FEATURES.subarray(18)) })
    const one = { inputs: { features: `${at('a.safetensors')}#x` }, labels: `${at('a.safetensors')}#y` }
    const given = spec(at, { ...one, testPath: at('b.safetensors') })
    const data = await openDataset(given, { kind: 'regression' }, { inputs: model.inputs.slice(0, 1) })
    expect(data.size).toBe(4)
    const [held] = [...data.evaluation(1)]
    expect([...held!.inputs.features!.data]).toEqual([...FEATURES.subarray(18)])
    expect([...held!.labels.data]).toEqual([-0.5])
    data.close?.()
  })

  it.each([
    [
      'a file that is missing',
      { 'test/x.npy': test['test/x.npy'] },
      'test',
      { code: 'data/no-file', message: /cannot read .*test.mask\.npy \(no such file or directory\)/ }
    ],
    [
      'rows of another shape',
      { ...test, 'test/x.npy': npy('<f4', [2, 1, 3], FEATURES.subarray(18)) },
      'test',
      { code: 'data/bad-tensor', message: /test.x\.npy: expected rows as in .*x\.npy: \[\[2,3\].*got \[\[1,3\]/ }
    ],
    [
      'one file for what comes from several',
      { 'test.safetensors': writeSafetensors([{ name: 'x', shape: [1], data: new Float32Array(1) }]) },
      'test.safetensors',
      { code: 'data/bad-test-path', message: /test\.safetensors: expected a folder/ }
    ]
  ])('are refused with what is wrong: %s', async (_, given, testPath, { code, message }) => {
    const at = await files(given)
    const opening = openDataset(spec(at, { testPath: at(testPath) }), CLASSES, model)
    await expect(opening).rejects.toMatchObject({ code, message: expect.stringMatching(message) })
  })

  it('need files of different names to be found by', async () => {
    const at = await files({ 'other/x.npy': npy('<i8', [4, 2], new BigInt64Array(8)), ...test })
    const inputs = { features: at('x.npy'), mask: at('other/x.npy') }
    await expect(openDataset(spec(at, { inputs, testPath: at('test') }), CLASSES, model)).rejects.toMatchObject({
      code: 'data/bad-test-path',
      facts: { got: 'two x.npy' }
    })
  })
})
