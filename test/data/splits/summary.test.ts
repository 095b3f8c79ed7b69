import { describe, expect, it } from 'vitest'
import type { DataSummary } from '../../../src/data/batches/batch.js'
import { summaryLines } from '../../../src/data/splits/summary.js'

const SUMMARY: DataSummary = {
  kind: 'jsonl',
  training: 812,
  heldOut: 90,
  skipped: 2,
  firstSkipped: 'rows.jsonl, line 7: expected a JSON object, got no JSON',
  labels: [
    { name: 'cats', training: 700, heldOut: 80 },
    { name: 'a label too long for any column', training: 112, heldOut: 10 }
  ],
  split: {
    by: 'dirichlet (alpha 0.3)',
    peer: 1,
    columns: ['cats', 'a label too long for any column'],
    peers: [
      [1200, 0, 1200],
      [700, 112, 812]
    ]
  }
}

describe('the summary of a data source', () => {
  it('is a small table of labels, and of who holds what', () => {
    expect(summaryLines(SUMMARY)).toMatchInlineSnapshot(`
      [
        "jsonl: 812 training examples, 90 held out",
        "2 left out because they are broken, the first: rows.jsonl, line 7: expected a JSON object, got no JSON",
        "",
        "              label  training  held out",
        "0              cats       700        80",
        "1  a label too lon…       112        10",
        "",
        "split by dirichlet (alpha 0.3) among 2 peers; this is peer 1",
        "peer  cats  a label too lon…   all",
        "   0  1200                 .  1200",
        " * 1   700               112   812",
      ]
    `)
  })

  it('says no more than there is, and cannot be made to move a cursor', () => {
    expect(summaryLines({ kind: 'text', training: 3, heldOut: 1, skipped: 0 })).toEqual([
      'text: 3 training examples, 1 held out'
    ])
    const hostile = { ...SUMMARY, labels: [{ name: '\u001b[2J', training: 1, heldOut: 0 }] }
    expect(summaryLines(hostile).join('')).not.toContain('\u001b')
  })

  it('stops at 64 peers', () => {
    const peers = Array.from({ length: 70 }, (_, i) => [i])
    const lines = summaryLines({
      kind: 'csv',
      training: 1,
      heldOut: 0,
      skipped: 0,
      split: { by: 'iid', columns: [], peers }
    })
    expect(lines.at(-1)).toBe('and 6 more')
    expect(lines).toContain('  63   63')
    expect(lines.some((line) => line.includes('this peer holds everything'))).toBe(true)
  })
})
