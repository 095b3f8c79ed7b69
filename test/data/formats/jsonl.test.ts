import { appendFile, writeFile } from 'node:fs/promises'
import { describe, expect, it } from 'vitest'
import type { TaskSpec } from '../../../src/base/federation.js'
import { isPeertuneError } from '../../../src/base/errors.js'
import { readJsonl } from '../../../src/data/formats/jsonl.js'
import type { FoundRow } from '../../../src/data/formats/row.js'
import type { JsonlSpec } from '../../../src/data/spec.js'
import { openDataset } from '../../../src/data/source.js'
import { idsOf, temporaryFile, temporaryTokenizer } from '../fixtures.js'

const TASK: TaskSpec = { kind: 'sequence-classification', labels: ['cats', 'dogs'] }
const bert = { inputs: ['input_ids', 'attention_mask', 'token_type_ids'].map((name) => ({ name, shape: ['b', 's'] })) }

/** Good rows, or the first error. */
const collect = async (content: string) => {
  const found: FoundRow[] = []
  for await (const { rows } of readJsonl(await temporaryFile(content), { columns: [] }))
    for (const row of rows)
      if (isPeertuneError(row)) throw row
      else found.push(row)
  return found
}

describe('rows of a JSONL file', () => {
  it('come with their line numbers and places; blank lines and a missing last line end do not matter', async () => {
    expect(await collect('{"text":"a","label":"x"}\n\n{"label":3,"text":"b\\nc"}')).toMatchObject([
      { unit: 'line', place: 1, fields: { text: 'a', label: 'x' }, bytes: { start: 0, length: 24 } },
      { place: 3, fields: { text: 'b\nc', label: 3 }, bytes: { start: 26, length: 25 } }
    ])
    expect(await collect('{"text":"é"}\r\n')).toMatchObject([{ place: 1, fields: { text: 'é' } }])
  })

  it('survive chunk borders inside lines and characters', async () => {
    const rows = Array.from({ length: 20_000 }, (_, i) => `{"text":"${'ü€'.repeat(i % 50)}","label":"${i}"}`)
    const content = rows.join('\n')
    const read = await collect(content)
    const bytes = Buffer.from(content)
    expect(read.length).toBe(20_000)
    expect(
      read.every(
        ({ fields, bytes: at }, i) =>
          fields.label === String(i) &&
          fields.text === 'ü€'.repeat(i % 50) &&
          bytes.toString('utf8', at!.start, at!.start + at!.length) === rows[i]
      )
    ).toBe(true)
  })

  it.each([
    ['{"text":"a","label":"x"}\n{"text":', 2, 'no JSON'],
    ['["a"]', 1, '["a"]'],
    ['{"text":"a"}\n7', 2, '7']
  ])('a broken one is named by file, line and expectation: %s', async (content, line, got) => {
    await expect(collect(content)).rejects.toMatchObject({
      code: 'data/bad-row',
      message: expect.stringMatching(`data\\.jsonl, line ${line}: expected a JSON object`),
      facts: { line, got: expect.stringContaining(got) }
    })
  })

  it('a line without end is refused before it fills the memory', async () => {
    await expect(collect('x'.repeat(9 * 1024 * 1024))).rejects.toMatchObject({
      code: 'data/bad-row',
      facts: { line: 1 }
    })
  })
})

/** Two contents in turn, every row made its own by the number of cats. */
const rows = (count: number) =>
  Array.from({ length: count }, (_, i) =>
    JSON.stringify({ text: `${i % 2 ? 'the dogs ran.' : 'a cat'}${' cat'.repeat(i)}`, label: ['cats', 'dogs'][i % 2] })
  )

const specOf = async (content: string, more: Partial<JsonlSpec> = {}): Promise<JsonlSpec> => ({
  kind: 'jsonl',
  path: await temporaryFile(content),
  tokenizer: await temporaryTokenizer({ bos_token: 'a', eos_token: '[SEP]' }),
  sequenceLength: 6,
  seed: 's',
  ...more
})

const open = async (content: string, more: Partial<JsonlSpec> = {}, task: TaskSpec = TASK) =>
  openDataset(await specOf(content, more), task, task.kind === 'causal-lm' ? { inputs: bert.inputs.slice(0, 1) } : bert)

describe('a JSONL dataset', () => {
  it('pads sequences to classify, and holds about a tenth out', async () => {
    const data = await open(rows(400).join('\n'))
    const { training, heldOut, labels } = data.summary!
    expect(data.size).toBe(training)
    expect(training + heldOut).toBe(400)
    // Binomial(400, 0.1): 40 on average, standard deviation 6.
    expect(heldOut).toBeGreaterThan(16)
    expect(heldOut).toBeLessThan(64)
    expect(labels).toEqual([
      { name: 'cats', training: expect.any(Number), heldOut: expect.any(Number) },
      { name: 'dogs', training: expect.any(Number), heldOut: expect.any(Number) }
    ])
    expect(labels!.map((label) => label.training + label.heldOut)).toEqual([200, 200])
    expect([...data.evaluation(16)].length).toBe(Math.ceil(heldOut / 16))
    const { inputs, labels: batch } = data.batches(1).next()
    const dogs = [...idsOf('[CLS]', 'the', 'dog', '##s', 'ran', '[SEP]')]
    expect([...inputs.input_ids!.data]).toEqual(
      batch.data[0] === 1 ? dogs : idsOf('[CLS]', 'a', 'cat', 'cat', 'cat', '[SEP]')
    )
    data.close?.()
  })

  it('holds the same rows out after a restart, in another order, and when rows are added', async () => {
    const all = rows(200)
    const held = async (content: readonly string[]) => {
      const data = await open(content.join('\n'), { sequenceLength: 256 })
      return [...data.evaluation(1)].map(({ inputs }) => inputs.input_ids!.data.join()).sort()
    }
    const first = await held(all)
    expect(first.length).toBeGreaterThan(5)
    expect(await held(all)).toEqual(first)
    expect(await held(all.toReversed())).toEqual(first)
    const fewer = await held(all.slice(0, 150))
    expect(fewer.length).toBeLessThan(first.length)
    expect(first).toEqual(expect.arrayContaining(fewer))
    const other = await open(all.join('\n'), { sequenceLength: 256, testSeed: 'other' })
    expect([...other.evaluation(1)].map(({ inputs }) => inputs.input_ids!.data.join()).sort()).not.toEqual(first)
  })

  it('never has one and the same text on both sides', async () => {
    const data = await open([...rows(60), ...rows(60), ...rows(60)].join('\n'), { sequenceLength: 128 })
    const held = [...data.evaluation(1)].map(({ inputs }) => inputs.input_ids!.data.join())
    const stream = data.batches(1)
    const trained = Array.from({ length: data.size }, () => stream.next().inputs.input_ids!.data.join())
    expect(held.length + trained.length).toBe(180)
    expect(held.filter((text) => trained.includes(text))).toEqual([])
  })

  it('keeps to a test file where one is given', async () => {
    const data = await open(rows(4).join('\n'), { testPath: await temporaryFile(rows(3).join('\n')) })
    expect(data.size).toBe(4)
    expect([...data.evaluation(3)].map(({ labels }) => [...labels.data])).toEqual([[0, 1, 0]])
    expect(data.summary).toMatchObject({ training: 4, heldOut: 3, labels: [{ heldOut: 2 }, { heldOut: 1 }] })
  })

  it('takes columns of other names, and label numbers, too', async () => {
    const columns = { text: 'question', label: 'intent' }
    const data = await open('{"question":"a cat","intent":1}', { columns })
    expect(data.batches(1).next().labels.data[0]).toBe(1)
  })

  it.each([
    ['{"text":5,"label":"cats"}', 'text', '"text": 5'],
    ['{"text":"a"}', 'label', 'no "label"'],
    ['{"text":"a","label":1.5}', 'label', '"label": 1.5'],
    ['{"text":"a","label":"birds"}', 'label', '"label": "birds"'],
    ['{"text":"a","label":2}', 'label', '"label": 2'],
    ['{"text":"a","label":-1}', 'label', '"label": -1']
  ])('names file, line, column and what was got: %s', async (row, column, got) => {
    await expect(open(`{"text":"a","label":0}\n${row}`)).rejects.toMatchObject({
      code: 'data/bad-row',
      message: expect.stringContaining('data.jsonl, line 2: expected'),
      facts: { line: 2, column, got },
      hint: expect.stringContaining('badRows: skip')
    })
  })

  it('leaves broken rows out and counts them only if told to', async () => {
    const content = '{"text":"a","label":0}\n{"text":\n{"text":"the cat","label":1}\n{"text":"b","label":"birds"}'
    await expect(open(content)).rejects.toMatchObject({ code: 'data/bad-row', facts: { line: 2 } })
    const data = await open(content, { badRows: 'skip', heldOut: 0 })
    expect(data.summary).toMatchObject({ training: 2, heldOut: 0, skipped: 2 })
    expect(data.summary?.firstSkipped).toContain('line 2')
  })

  it('an empty file is called empty', async () => {
    for (const content of ['', '\n \n']) await expect(open(content)).rejects.toMatchObject({ code: 'data/empty' })
    await expect(open('{"text":\n', { badRows: 'skip' })).rejects.toMatchObject({ code: 'data/empty' })
  })

  it('says so when a file changes under it', async () => {
    const spec = await specOf('{"text":"a cat","label":0}\n{"text":"the dog","label":1}\n', { heldOut: 0 })
    const data = await openDataset(spec, TASK, bert)
    await writeFile(spec.path, '{"text":"a dog","label":0}\n{"text":"the cat","label":1}\n')
    expect(() => data.batches(1).next()).toThrowError(expect.objectContaining({ code: 'data/changed' }))
    await writeFile(spec.path, '')
    await appendFile(spec.path, 'nothing')
    expect(() => data.batches(1).next()).toThrowError(expect.objectContaining({ code: 'data/changed' }))
  })

  it('says how far it is, and stops when told to', async () => {
    const seen: number[] = []
    const spec = await specOf(rows(3000).join('\n'))
    await openDataset(spec, TASK, bert, { onProgress: ({ bytes, totalBytes }) => seen.push(bytes / totalBytes) })
    expect(seen.length).toBeGreaterThan(3)
    expect(seen.at(-1)).toBe(1)
    expect(seen).toEqual(seen.toSorted((a, b) => a - b))
    await expect(openDataset(spec, TASK, bert, { signal: AbortSignal.abort(new Error('stopped')) })).rejects.toThrow()
  })

  it('packs rows for a causal language model with EOS between them', async () => {
    const data = await open(
      Array(4).fill('{"text":"the cat sat."}').join('\n'),
      { testPath: await temporaryFile('{"text":"the cat sat. the dog ran."}') },
      { kind: 'causal-lm' }
    )
    expect(data.size).toBe(4)
    const packed = data.batches(4).next().inputs.input_ids!.data
    expect([...packed].filter((id) => id === idsOf('[SEP]')[0]).length).toBe(4)
    expect([...data.evaluation(1)].map(({ inputs }) => [...inputs.input_ids!.data])).toEqual([
      idsOf('a', 'the', 'cat', 'sat', '.', 'the')
    ])
    await expect(open('{"text":"the cat"}', { heldOut: 0 }, { kind: 'causal-lm' })).rejects.toMatchObject({
      code: 'data/empty',
      hint: 'give more text or shorter sequences'
    })
  })

  it('predicts numbers, and pads with labels that are none', async () => {
    const data = await open(
      '{"text":"a cat","label":2.5}\n{"text":"the dog","label":-3}',
      { heldOut: 0 },
      { kind: 'regression' }
    )
    const { labels } = data.batches(2).next()
    expect(labels.shape).toEqual([2])
    expect([...labels.data].sort()).toEqual([-3, 2.5])
    const held = await open(
      '{"text":"a","label":1}',
      { testPath: await temporaryFile('{"text":"a","label":7}') },
      { kind: 'regression' }
    )
    expect([...held.evaluation(2)].map((batch) => [...batch.labels.data])).toEqual([[7, Number.NaN]])
    await expect(open('{"text":"a","label":"many"}', {}, { kind: 'regression' })).rejects.toMatchObject({
      facts: { column: 'label', got: '"label": "many"' }
    })
  })

  it('joins two texts, and says which token belongs to which', async () => {
    // The test tokenizer knows no frame for a pair: the tokens follow one another.
    const content = '{"text":"the cat sat ran the","pair":"a dog","label":1}'
    const data = await open(content, { columns: { pair: 'pair' }, heldOut: 0 })
    const { input_ids: ids } = data.batches(1).next().inputs
    expect([...ids!.data]).toEqual(idsOf('the', 'cat', 'sat', 'ran', 'a', 'dog'))
  })
})
