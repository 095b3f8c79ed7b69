import { readFile, writeFile } from 'node:fs/promises'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import sharp from 'sharp'
import { describe, expect, it } from 'vitest'
import { seededRng } from '../../src/base/rng.js'
import { predict, type PredictCommandOptions, predictionText } from '../../src/cli/commands/predict.js'
import { createOutput } from '../../src/cli/output.js'
import { drawGlyph } from '../../src/data/images/glyphs.js'
import { floatConstant } from '../../src/onnx/graph/constant.js'
import type { Graph } from '../../src/onnx/graph/graph.js'
import { writeModel } from '../../src/onnx/file/write.js'
import { floatsOf, intsOf, readSafetensors } from '../../src/tensor/safetensors.js'
import { temporaryFolder } from '../node/folder.js'

const golden = fileURLToPath(new URL('../golden/conformance/bert-torchscript', import.meta.url))
const glyphs = fileURLToPath(new URL('../../models/glyphs/model.onnx', import.meta.url))
const folder = await temporaryFolder()

async function printed(inputs: readonly string[], options: Partial<PredictCommandOptions>): Promise<string> {
  let text = ''
  const env = { XDG_CACHE_HOME: folder.root }
  const all = { column: 'text', top: '5', ...options }
  await predict(
    inputs,
    all,
    env,
    createOutput((more) => (text += more))
  )
  return text
}

const words = Array.from({ length: 300 }, (_, id) => `w${id}`)
const sequence = (id: string, type: number) => ({ Sequence: { id, type_id: type } })
/** Words are tokens, w7 the seventh; a second text is of type 1, as BERT has it. */
const TOKENIZER = {
  version: '1.0',
  added_tokens: [],
  normalizer: null,
  pre_tokenizer: { type: 'WhitespaceSplit' },
  post_processor: {
    type: 'TemplateProcessing',
    single: [sequence('A', 0)],
    pair: [sequence('A', 0), sequence('B', 1)],
    special_tokens: {}
  },
  decoder: null,
  model: { type: 'WordLevel', vocab: Object.fromEntries(words.map((word, id) => [word, id])), unk_token: 'w0' }
}
await folder.write('tokenizer.json', JSON.stringify(TOKENIZER))

const tensorsOf = async (path: string) => readSafetensors(await readFile(path), path)

describe('of texts, predict', () => {
  it('says what PyTorch says with the adapter, for pairs of unequal length in one batch', async () => {
    const inputs = await tensorsOf(join(golden, 'inputs.safetensors'))
    const of = (name: string) => intsOf(inputs.get(name) as NonNullable<ReturnType<typeof inputs.get>>)
    const [ids, mask, types] = [of('input_ids'), of('attention_mask'), of('token_type_ids')]
    const length = ids.length / 3
    const rows = [0, 1, 2].map((row) => {
      const part = (type: number) =>
        Array.from({ length }, (_, i) => row * length + i)
          .filter((at) => mask[at] === 1 && types[at] === type)
          .map((at) => `w${ids[at]}`)
          .join(' ')
      return JSON.stringify({ question: part(0), answer: part(1) })
    })
    const file = await folder.write('pairs.jsonl', rows.join('\n'))
    const text = await printed([], {
      model: join(golden, 'model.onnx'),
      adapter: join(golden, 'lora/adapter'),
      tokenizer: folder.at('tokenizer.json'),
      file,
      column: 'question',
      pair: 'answer',
      json: true
    })
    const expected = (await tensorsOf(join(golden, 'lora/expected.safetensors'))).get('logits')
    const logits = floatsOf(expected as NonNullable<typeof expected>)
    const found = JSON.parse(text) as { label: string; probabilities: { label: string; probability: number }[] }[]
    expect(found).toHaveLength(3)
    for (const [row, { label, probabilities }] of found.entries()) {
      const weights = [0, 1, 2].map((index) => Math.exp(logits[3 * row + index] as number))
      const total = weights.reduce((sum, weight) => sum + weight, 0)
      for (const one of probabilities)
        expect(one.probability).toBeCloseTo((weights[Number(one.label.slice(6))] as number) / total, 4)
      // id2label of config.json.
      expect(label).toBe(`LABEL_${weights.indexOf(Math.max(...weights))}`)
    }
  })
})

/** A model whose logits are a row of a table for each token: [batch, sequence, width], or their sum. */
async function tableModel(name: string, rows: readonly (readonly number[])[], isSum: boolean): Promise<string> {
  const width = rows[0]?.length ?? 0
  const shape = isSum ? ['batch', width] : ['batch', 'sequence', width]
  const input = { name: 'input_ids', type: 'int64', shape: ['batch', 'sequence'] } as const
  const output = { name: 'logits', type: 'float32', shape } as const
  const node = (op: string, inputs: string[], to: string, attributes = {}) => ({
    op,
    domain: '',
    name: to,
    inputs,
    outputs: [to],
    attributes
  })
  // Half of the table twice, so that the runtime finds something to fold, as in every export.
  const values = Float32Array.from(rows.flat(), (value) => value / 2)
  const table = floatConstant('table', values, [rows.length, width])
  const axes = {
    name: 'axes',
    type: 'int64',
    shape: [1],
    data: { kind: 'inline', bytes: new Uint8Array([1, 0, 0, 0, 0, 0, 0, 0]) }
  } as const
  const half = { ...table, name: 'half' }
  const look = (to: string) => [node('Add', ['table', 'half'], 'doubled'), node('Gather', ['doubled', 'input_ids'], to)]
  const sum = node('ReduceSum', ['rows', 'axes'], 'logits', { keepdims: { type: 'int', value: 0 } })
  const graph: Graph = {
    name,
    opsets: { '': 20 },
    inputs: [input],
    outputs: [output],
    nodes: isSum ? [...look('rows'), sum] : look('logits'),
    initializers: new Map([table, half, ...(isSum ? [axes] : [])].map((one) => [one.name, one])),
    values: new Map([input, output].map((value) => [value.name, value]))
  }
  await writeFile(folder.at(`${name}.onnx`), writeModel(graph))
  return folder.at(`${name}.onnx`)
}

describe('predict', () => {
  it('labels the words of a text', async () => {
    const model = await tableModel(
      'tags',
      [
        [3, 0, 0],
        [0, 2, 0],
        [0, 0, 1.5]
      ],
      false
    )
    const options = { model, tokenizer: folder.at('tokenizer.json'), labels: ['O', 'PER', 'LOC'] }
    // exp(2) / (exp(2) + 2), exp(1.5) / (exp(1.5) + 2), exp(3) / (exp(3) + 2)
    expect(await printed(['w1 w2  w0'], options)).toBe('w1   78.7 %  PER\nw2   69.1 %  LOC\nw0   90.9 %  O\n\n')
  })

  it('gives the number of a regression', async () => {
    const model = await tableModel('sum', [[0], [0.5], [-3.25]], true)
    const options = { model, tokenizer: folder.at('tokenizer.json') }
    expect(await printed(['w1 w1 w1', 'w2'], options)).toBe('1.50000  w1 w1 w1\n-3.25000  w2\n')
  })

  it.skipIf(!existsSync(glyphs))('reads images', async () => {
    const files: string[] = []
    for (const name of ['3', '7'] as const) {
      const drawn = Buffer.from(drawGlyph(name, seededRng('predict', name)).map((pixel) => 255 * pixel))
      const file = folder.at(`${name}.png`)
      await sharp(drawn, { raw: { width: 28, height: 28, channels: 1 } })
        .png()
        .toFile(file)
      files.push(file)
    }
    const labels = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9']
    const text = await printed(files, { model: glyphs, labels, top: '1' })
    expect(text).toMatch(/^.*3\.png\n +[\d.]+ % {2}3\n.*7\.png\n +[\d.]+ % {2}7\n$/)
  })

  it('shows as many labels as are asked for', () => {
    const probabilities = ['b', 'a', 'c'].map((label, rank) => ({
      label,
      probability: [0.7, 0.2, 0.1][rank] as number
    }))
    expect(predictionText({ input: 'text', label: 'b', probabilities }, 2)).toEqual([
      'text',
      '   70.0 %  b',
      '   20.0 %  a'
    ])
  })

  it('says what is missing', async () => {
    const model = join(golden, 'model.onnx')
    await expect(printed(['w1'], { model })).rejects.toMatchObject({ code: 'config/no-tokenizer' })
    const tokenizer = folder.at('tokenizer.json')
    await expect(printed([], { model, tokenizer })).rejects.toMatchObject({ code: 'config/missing-field' })
    await expect(printed([], { model, tokenizer, file: 'a.xml' })).rejects.toMatchObject({ code: 'config/wrong-value' })
    await expect(printed(['w1'], { model, tokenizer, task: 'translation' })).rejects.toThrow(/--task: expected one of/)
    await expect(printed(['w1'], { model: join(golden, '../llama-dynamo'), tokenizer })).rejects.toMatchObject({
      code: 'config/wrong-task',
      hint: 'use peertune generate'
    })
  })
})
