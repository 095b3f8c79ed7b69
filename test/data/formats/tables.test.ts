import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import type { TaskSpec } from '../../../src/base/federation.js'
import { isPeertuneError } from '../../../src/base/errors.js'
import { readCsv } from '../../../src/data/formats/csv.js'
import { readParquet } from '../../../src/data/formats/parquet.js'
import type { ReadRows, Row } from '../../../src/data/formats/row.js'
import { openDataset } from '../../../src/data/source.js'
import type { CsvSpec, ParquetSpec } from '../../../src/data/spec.js'
import { idsOf, temporaryFile, temporaryTokenizer } from '../fixtures.js'

const GOLDEN = join(import.meta.dirname, '../golden')
const bert = { inputs: ['input_ids', 'attention_mask'].map((name) => ({ name, shape: ['b', 's'] })) }
const TASK: TaskSpec = { kind: 'sequence-classification', labels: ['cats', 'dogs'] }

async function collect(read: ReadRows, path: string, columns: readonly string[] = []): Promise<Row[]> {
  const found: Row[] = []
  for await (const { rows } of read(path, { columns }))
    for (const row of rows)
      if (isPeertuneError(row)) throw row
      else found.push(row)
  return found
}

describe('CSV', () => {
  const csv = async (content: string, delimiter = ',', columns: readonly string[] = []) =>
    collect(readCsv(delimiter), await temporaryFile(content, 'data.csv'), columns)

  // RFC 4180: quoted line ends, commas and doubled quotes; CRLF; a byte-order mark is no part of a name.
  it('reads what RFC 4180 allows, with the line each record begins on', async () => {
    const content = '\ufefftext,label\r\n"two\nlines, ""quoted""",cats\r\nplain,1\r\n'
    expect(await csv(content)).toMatchObject([
      { unit: 'line', place: 2, fields: { text: 'two\nlines, "quoted"', label: 'cats' } },
      { place: 4, fields: { text: 'plain', label: '1' } }
    ])
    expect(await csv('text\tlabel\na,b\t0\n', '\t')).toMatchObject([{ fields: { text: 'a,b', label: '0' } }])
  })

  it('survives chunk borders', async () => {
    const lines = Array.from({ length: 9000 }, (_, i) => `"${'ü€\n'.repeat(i % 9)}",${i}`)
    const read = await csv(`text,label\n${lines.join('\n')}\n`)
    expect(read.length).toBe(9000)
    expect(read.every(({ fields }, i) => fields.text === 'ü€\n'.repeat(i % 9) && fields.label === String(i))).toBe(true)
  })

  it.each([
    [
      'text,label\na,0\nb\n',
      { code: 'data/bad-row', facts: { line: 3, expected: '2 fields, as the first line names', got: '1' } }
    ],
    ['text,label\na,0\nb,1,2\n', { code: 'data/bad-row', facts: { line: 3, got: '3' } }],
    ['text,label\n"a"b,0\n', { code: 'data/bad-row', facts: { line: 2, expected: 'CSV as in RFC 4180' } }],
    ['text,label\n"never closed,0\n', { code: 'data/bad-row', facts: { expected: 'CSV as in RFC 4180' } }],
    ['question,label\na,0\n', { code: 'data/no-column', facts: { column: 'text', expected: ['question', 'label'] } }]
  ])('names what is wrong and where: %j', async (content, error) => {
    await expect(csv(content, ',', ['text'])).rejects.toMatchObject(error)
  })

  it('feeds a classifier, rows read back from the spool when their turn comes', async () => {
    const path = await temporaryFile('label,text,other\ndogs,"the dog, ran",x\n0,a cat,y\n', 'data.csv')
    const spec: CsvSpec = {
      kind: 'csv',
      path,
      tokenizer: await temporaryTokenizer(),
      sequenceLength: 8,
      seed: 's',
      heldOut: 0
    }
    const data = await openDataset(spec, TASK, bert)
    const { inputs, labels } = data.batches(2).next()
    const rows = [0, 1].map((row) => [labels.data[row], ...inputs.input_ids!.data.subarray(8 * row, 8 * row + 8)])
    expect(rows.toSorted()).toEqual([
      [0, ...idsOf('[CLS]', 'a', 'cat', '[SEP]', '[PAD]', '[PAD]', '[PAD]', '[PAD]')],
      [1, ...idsOf('[CLS]', 'the', 'dog', '[UNK]', 'ran', '[SEP]', '[PAD]', '[PAD]')]
    ])
    data.close?.()
  })

  it('leaves ragged rows out only if told to', async () => {
    const path = await temporaryFile('text,label\na,0\nb\nc,9\nthe cat,1\n', 'data.csv')
    const spec: CsvSpec = {
      kind: 'csv',
      path,
      tokenizer: await temporaryTokenizer(),
      sequenceLength: 8,
      seed: 's',
      heldOut: 0
    }
    await expect(openDataset(spec, TASK, bert)).rejects.toMatchObject({ facts: { line: 3 } })
    const data = await openDataset({ ...spec, badRows: 'skip' }, TASK, bert)
    expect(data.summary).toMatchObject({ training: 2, skipped: 2 })
  })
})

describe('Parquet', () => {
  // Written by Arrow's Rust implementation: see golden/make.py.
  it.each(['snappy', 'zstd'])('reads the rows of every row group, the wanted columns alone: %s', async (codec) => {
    const read = await collect(readParquet, join(GOLDEN, `rows-${codec}.parquet`), [
      'text',
      'label',
      'score',
      'tokens',
      'tags'
    ])
    expect(read.map(({ unit, place, fields }) => ({ unit, place, fields }))).toEqual(
      Array.from({ length: 12 }, (_, i) => ({
        unit: 'row',
        place: i + 1,
        fields: {
          text: `row ${i} ${i % 3 === 0 ? 'Ünïcode €' : 'plain'}`,
          label: i % 2,
          score: i / 4 - 1,
          tokens: ['the', 'cat', 'sat'].slice(0, 1 + (i % 3)),
          tags: [0, 1, 0].slice(0, 1 + (i % 3))
        }
      }))
    )
    const [first] = await collect(readParquet, join(GOLDEN, `rows-${codec}.parquet`), ['score'])
    expect(first?.fields).toEqual({ score: -1 })
  })

  const spec = async (more: Partial<ParquetSpec> = {}): Promise<ParquetSpec> => ({
    kind: 'parquet',
    path: join(GOLDEN, 'rows-zstd.parquet'),
    tokenizer: await temporaryTokenizer(),
    sequenceLength: 8,
    seed: 's',
    heldOut: 0,
    ...more
  })

  it('feeds classification, regression, word labels and a language model', async () => {
    const classes = await openDataset(await spec(), TASK, bert)
    expect(classes.summary).toMatchObject({ training: 12, labels: [{ training: 6 }, { training: 6 }] })
    const scores = await openDataset(await spec({ columns: { label: 'score' } }), { kind: 'regression' }, bert)
    expect([...scores.batches(12).next().labels.data].toSorted((a, b) => a - b)).toEqual(
      Array.from({ length: 12 }, (_, i) => i / 4 - 1)
    )
    const words = await openDataset(await spec(), { kind: 'token-classification', labels: ['O', 'X'] }, bert)
    expect(words.batches(3).next().labels.shape).toEqual([3, 8])
    const model = { inputs: bert.inputs.slice(0, 1) }
    const language = await openDataset(await spec(), { kind: 'causal-lm' }, model)
    expect(language.size).toBeGreaterThan(3)
  })

  it('names a column that is not there, and a file that is no Parquet', async () => {
    await expect(openDataset(await spec({ columns: { text: 'body' } }), TASK, bert)).rejects.toMatchObject({
      code: 'data/no-column',
      facts: { column: 'body', expected: ['text', 'label', 'score', 'tokens', 'tags'] }
    })
    const whole = await readFile(join(GOLDEN, 'rows-snappy.parquet'))
    for (const bytes of [Buffer.from('no parquet at all'), whole.subarray(0, 3000), Buffer.alloc(0)]) {
      const path = await temporaryFile(bytes, 'rows.parquet')
      await expect(openDataset(await spec({ path }), TASK, bert)).rejects.toMatchObject({
        code: 'data/bad-parquet',
        facts: { file: path }
      })
    }
  })
})
