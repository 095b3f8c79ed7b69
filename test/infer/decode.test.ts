import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { classProbabilities } from '../../src/infer/class-probabilities.js'
import { decode, type DecodeOptions, type StopReason } from '../../src/infer/decode.js'
import type { Forward } from '../../src/infer/forward.js'
import { bucketOf, createNextLogits, textInputs } from '../../src/infer/text-logits.js'
import { openForward } from '../../src/node/trained/open-forward.js'
import { loadAdaptedModel } from '../../src/node/model/program.js'
import { parametersFrom, readAdapterFolder } from '../../src/peft/files/adapter-format.js'
import { floatsOf, intsOf, readSafetensors } from '../../src/tensor/safetensors.js'
import { temporaryFolder } from '../node/folder.js'

const golden = fileURLToPath(new URL('../golden/conformance/llama-dynamo', import.meta.url))
const folder = await temporaryFolder()

describe('decoding', () => {
  /** The next token is the sum of the last two, modulo 10. */
  const options: DecodeOptions = {
    nextLogits: async (ids) => {
      const sum = (ids.at(-1) as number) + (ids.at(-2) ?? 0)
      return Float32Array.from({ length: 10 }, (_, id) => (id === sum % 10 ? 1 : 0))
    },
    choose: (logits) => logits.indexOf(1),
    maxTokens: 6,
    stopTokens: new Set(),
    context: 100
  }

  async function run(changes: Partial<DecodeOptions>): Promise<{ ids: number[]; stopped: StopReason }> {
    const tokens = decode(Int32Array.of(1, 2), { ...options, ...changes })
    const ids: number[] = []
    let next = await tokens.next()
    for (; !next.done; next = await tokens.next()) ids.push(next.value)
    return { ids, stopped: next.value }
  }

  it('sees all that was chosen before', async () => {
    expect(await run({})).toEqual({ ids: [3, 5, 8, 3, 1, 4], stopped: 'length' })
  })

  it('ends at a stop token, which is no part of the text', async () => {
    expect(await run({ stopTokens: new Set([9, 8]) })).toEqual({ ids: [3, 5], stopped: 'stop token' })
  })

  it('ends where the model has no position left', async () => {
    expect(await run({ context: 4 })).toEqual({ ids: [3, 5, 8], stopped: 'context' })
  })

  it.each([
    [1, 500, 32],
    [33, 500, 64],
    [300, 500, 500],
    [20, 24, 24]
  ])('%i tokens of %i positions run in a graph of %i', (length, context, bucket) =>
    expect(bucketOf(length, context)).toBe(bucket)
  )
})

describe('the next token of a text, padded to its bucket', () => {
  const forwards: Forward[] = []
  const references = new Map<string, Float64Array | Float32Array>()
  let tokens: Int32Array
  beforeAll(async () => {
    const path = join(golden, 'inputs.safetensors')
    const ids = readSafetensors(await readFile(path), path).get('input_ids')
    if (ids === undefined) throw new Error('no input_ids')
    tokens = intsOf(ids, 'input_ids').slice(0, ids.shape[1])
  })
  afterAll(() => Promise.all(forwards.map((forward) => forward.close())))

  it.each(['lora', 'dora', 'ia3', 'prefix'])('is what PyTorch predicts with %s', async (method) => {
    const { plan, tensors } = await readAdapterFolder(join(golden, method, 'adapter'))
    const spec = { modelPath: join(golden, 'model.onnx'), task: { kind: 'causal-lm' }, peft: plan } as const
    const adapted = await loadAdaptedModel(spec, { weightsDir: folder.root })
    const parameters = parametersFrom(tensors, adapted.method.schema)
    const forward = await openForward({ adapted, parameters, device: 'cpu', threads: 1 })
    forwards.push(forward)
    const nextLogits = createNextLogits({ forward, inputs: adapted.model.graph.inputs, context: 64 })
    const file = join(golden, method, 'expected.safetensors')
    const expected = readSafetensors(await readFile(file), file).get('logits')
    if (expected === undefined) throw new Error('no logits')
    const reference = floatsOf(expected, 'logits')
    references.set(method, reference as Float32Array)
    const vocabulary = expected.shape[2] as number
    for (const length of [2, tokens.length]) {
      const logits = await nextLogits(tokens.slice(0, length))
      expect(logits).toHaveLength(vocabulary)
      const start = (length - 1) * vocabulary
      const worst = logits.reduce(
        (max, value, i) => Math.max(max, Math.abs(value - (reference[start + i] as number))),
        0
      )
      expect(worst).toBeLessThan(1e-4)
    }
  })

  it('comes from inputs that a text can fill', () => {
    const wanted = [
      { name: 'input_ids', shape: ['b', 's'] },
      { name: 'attention_mask', shape: ['b', 's'] },
      { name: 'position_ids', shape: ['b', 's'] }
    ]
    expect(textInputs(wanted, Int32Array.of(7, 8), 3)).toEqual({
      input_ids: { type: 'int64', shape: [1, 3], data: Int32Array.of(7, 8, 0) },
      attention_mask: { type: 'int64', shape: [1, 3], data: Int32Array.of(1, 1, 0) },
      position_ids: { type: 'int64', shape: [1, 3], data: Int32Array.of(0, 1, 2) }
    })
    expect(() => textInputs([{ name: 'pixel_values', shape: [1, 3, 8, 8] }], Int32Array.of(7), 3)).toThrowError(
      expect.objectContaining({ code: 'infer/no-text-input' })
    )
  })
})

it('probabilities of labels are a softmax, the likeliest first', () => {
  // torch.softmax(torch.tensor([0.5, 3.0, -1.0]), 0)
  const found = classProbabilities(Float32Array.of(0.5, 3, -1), ['no', 'yes'])
  expect(found.map(({ label }) => label)).toEqual(['yes', 'no', '2'])
  for (const [rank, expected] of [0.9087599, 0.0745956, 0.0166445].entries())
    expect(found[rank]?.probability).toBeCloseTo(expected, 6)
  expect(found.reduce((sum, { probability }) => sum + probability, 0)).toBeCloseTo(1, 12)
})
