import { describe, expect, it } from 'vitest'
import type { TaskSpec } from '../../src/base/federation.js'
import { readRows } from '../../src/data/jsonl.js'
import { openDataset } from '../../src/data/source.js'
import { idsOf, temporaryFile, temporaryTokenizer } from './fixtures.js'

const TASK: TaskSpec = { kind: 'sequence-classification', labels: ['cats', 'dogs'] }
const bert = { inputs: ['input_ids', 'attention_mask', 'token_type_ids'].map((name) => ({ name, shape: ['b', 's'] })) }

const collect = async (content: string, wantsLabel = true) => {
  const rows = []
  for await (const row of readRows(await temporaryFile(content), wantsLabel)) rows.push(row)
  return rows
}

describe('rows of a JSONL file', () => {
  it('come with their line numbers; blank lines and a missing last line end do not matter', async () => {
    expect(await collect('{"text":"a","label":"x"}\n\n{"label":3,"text":"b\\nc"}')).toEqual([
      { line: 1, text: 'a', label: 'x' },
      { line: 3, text: 'b\nc', label: '3' }
    ])
    expect(await collect('{"text":"é"}\r\n', false)).toEqual([{ line: 1, text: 'é', label: undefined }])
  })

  it('survive chunk borders inside lines and characters', async () => {
    const rows = Array.from({ length: 5000 }, (_, i) => `{"text":"${'ü€'.repeat(i % 50)}","label":"${i}"}`)
    const read = await collect(rows.join('\n'))
    expect(read.length).toBe(5000)
    expect(read.every((row, i) => row.label === String(i) && row.text === 'ü€'.repeat(i % 50))).toBe(true)
  })

  it.each([
    ['{"text":"a","label":"x"}\n{"text":', 2, 'no JSON'],
    ['["a"]', 1, '["a"]'],
    ['{"text":5,"label":"x"}', 1, '"text": 5'],
    ['{"text":"a"}', 1, 'no "label"'],
    ['{"text":"a","label":1.5}', 1, '"label": 1.5']
  ])('a broken one is named by file, line and expectation: %s', async (content, line, got) => {
    await expect(collect(content)).rejects.toMatchObject({
      code: 'data/bad-row',
      message: expect.stringMatching(`data\\.jsonl, line ${line}: expected \\{"text": string, "label"`),
      facts: { line, got: expect.stringContaining(got) }
    })
  })

  it('an empty file is called empty', async () => {
    await expect(collect('')).rejects.toMatchObject({ code: 'data/empty' })
    await expect(collect('\n \n')).rejects.toMatchObject({ code: 'data/empty' })
  })

  it('a line without end is refused before it fills the memory', async () => {
    await expect(collect('x'.repeat(5 * 1024 * 1024))).rejects.toMatchObject({
      code: 'data/bad-row',
      facts: { line: 1 }
    })
  })
})

describe('a JSONL dataset', () => {
  const rows = (count: number) =>
    Array.from({ length: count }, (_, i) =>
      JSON.stringify({ text: i % 2 ? 'the dogs ran.' : 'a cat', label: ['cats', 'dogs'][i % 2] })
    )

  const open = async (train: string, test?: string, task: TaskSpec = TASK) =>
    openDataset(
      {
        kind: 'jsonl',
        path: await temporaryFile(train),
        ...(test === undefined ? {} : { testPath: await temporaryFile(test) }),
        tokenizer: await temporaryTokenizer({ bos_token: 'a', eos_token: '[SEP]' }),
        sequenceLength: 6,
        seed: 's'
      },
      task,
      task.kind === 'causal-lm' ? { inputs: bert.inputs.slice(0, 1) } : bert
    )

  it('pads sequences to classify, and holds a tenth out', async () => {
    const data = await open(rows(40).join('\n'))
    expect(data.size).toBe(36)
    const held = [...data.evaluation(4)]
    expect(held.length).toBe(1)
    const { inputs, labels } = data.batches(1).next()
    const dogs = [...idsOf('[CLS]', 'the', 'dog', '##s', 'ran', '[SEP]')]
    expect([...inputs.input_ids!.data]).toEqual(
      labels.data[0] === 1 ? dogs : idsOf('[CLS]', 'a', 'cat', '[SEP]', '[PAD]', '[PAD]')
    )
  })

  it('keeps to a test file where one is given', async () => {
    const data = await open(rows(4).join('\n'), rows(3).join('\n'))
    expect(data.size).toBe(4)
    expect([...data.evaluation(3)].map(({ labels }) => [...labels.data])).toEqual([[0, 1, 0]])
  })

  it('takes label numbers too, and names the row of a label it does not know', async () => {
    expect((await open('{"text":"a cat","label":1}')).batches(1).next().labels.data[0]).toBe(1)
    for (const label of ['"birds"', '2', '-1'])
      await expect(open(`{"text":"a","label":0}\n{"text":"a","label":${label}}`)).rejects.toMatchObject({
        code: 'data/bad-row',
        facts: { line: 2 }
      })
  })

  it('packs rows for a causal language model with EOS between them', async () => {
    const data = await open(
      Array(4).fill('{"text":"the cat sat."}').join('\n'),
      '{"text":"the cat sat. the dog ran."}',
      {
        kind: 'causal-lm'
      }
    )
    expect(data.size).toBe(4)
    const packed = Array.from({ length: 4 }, () => data.batches(4))
      .at(0)!
      .next().inputs.input_ids!.data
    expect([...packed].filter((id) => id === idsOf('[SEP]')[0]).length).toBe(4)
    expect([...data.evaluation(1)].map(({ inputs }) => [...inputs.input_ids!.data])).toEqual([
      idsOf('a', 'the', 'cat', 'sat', '.', 'the')
    ])
  })
})
