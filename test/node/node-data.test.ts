import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import type { ErrorFacts } from '../../src/base/errors.js'
import { silentLogger } from '../../src/base/log.js'
import { createNodeData } from '../../src/node/node-data.js'
import { temporaryFolder, temporaryTokenizer } from '../data/fixtures.js'

describe("a node's data", () => {
  it('tells the status and the log how far it is, what there is, and what was left out', async () => {
    const path = join(await temporaryFolder(), 'rows.jsonl')
    const rows = Array.from({ length: 20_000 }, (_, i) =>
      JSON.stringify({ text: `row ${i} ${'x'.repeat(99)}`, label: i % 2 })
    )
    await writeFile(path, [...rows, '{"text":'].join('\n'))
    const told: { message: string; facts: ErrorFacts }[] = []
    const tell = (facts: ErrorFacts, message: string) => told.push({ message, facts })
    const tokenizer = await temporaryTokenizer()
    const data = createNodeData({
      config: { data: { kind: 'jsonl', path, tokenizer, sequenceLength: 16, seed: 's', badRows: 'skip' } },
      manifest: { task: { kind: 'sequence-classification', labels: ['a', 'b'] } },
      log: { ...silentLogger, info: tell, warn: tell }
    })
    expect(data.state()).toBeUndefined()
    const model = { inputs: [{ name: 'input_ids', shape: ['batch', 'seq'] }] }
    const dataset = await data.open(model, new AbortController().signal)
    const { training, heldOut } = dataset.summary!
    expect(training + heldOut).toBe(20_000)
    expect(data.state()).toEqual({ kind: 'jsonl', rows: 20_000, read: 1, training, heldOut, skipped: 1 })
    const percents = told
      .filter(({ message }) => message === 'reading the data')
      .map(({ facts }) => Number(facts.percent))
    expect(percents.length).toBeGreaterThan(4)
    expect(percents).toEqual(percents.toSorted((a, b) => a - b))
    expect(told.slice(-2)).toEqual([
      { message: 'left broken rows out', facts: { skipped: 1, first: expect.stringContaining('line 20001') } },
      { message: 'the data is open', facts: { kind: 'jsonl', training, heldOut, skipped: 1 } }
    ])
    data.close()
    await expect(data.open(model, AbortSignal.abort(new Error('the node stops')))).rejects.toThrow()
  })
})
