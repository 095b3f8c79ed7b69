import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import type { TaskSpec } from '../../src/base/federation.js'
import { openDataset } from '../../src/data/source.js'
import type { TensorsSpec } from '../../src/data/spec.js'
import { openTensor } from '../../src/data/formats/tensor-file.js'
import { writeSafetensors } from '../../src/tensor/safetensors.js'
import { temporaryFolder } from './fixtures.js'

const GOLDEN = join(import.meta.dirname, 'golden', 'tensors')

/** A .npy file of version 1 as numpy's documentation describes it. */
function npy(descr: string, shape: readonly number[], data: ArrayBufferView, fortran = false): Buffer {
  const order = fortran ? 'True' : 'False'
  const dims = shape.map((dim) => `${dim},`).join(' ')
  const text = `{'descr': '${descr}', 'fortran_order': ${order}, 'shape': (${dims}), }`
  const header = `${text.padEnd(Math.ceil((text.length + 11) / 64) * 64 - 11)}\n`
  const head = Buffer.from([0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59, 1, 0, header.length & 255, header.length >> 8])
  return Buffer.concat([head, Buffer.from(header), Buffer.from(data.buffer, data.byteOffset, data.byteLength)])
}

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
  for (const [name, content] of Object.entries(all)) await writeFile(join(folder, name), content)
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
