import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { TaskSpec } from '../../../src/base/federation.js'
import { type Collection, choose, holdOut } from '../../../src/data/splits/choose.js'
import { contentKey } from '../../../src/data/splits/content-key.js'
import { openDataset } from '../../../src/data/source.js'
import type { JsonlSpec, PeerSplit } from '../../../src/data/spec.js'
import { temporaryFile, temporaryTokenizer } from '../fixtures.js'

const LABELS = ['a', 'b', 'c', 'd']

/** Examples named by `names`, each of the class its name ends on. */
const collection = (names: readonly string[]): Collection => ({
  size: names.length,
  key: (i) => contentKey('s', names[i]!),
  labels: (i) => Number(names[i]!.at(-1)) % LABELS.length,
  labelNames: LABELS,
  groups: undefined as never
})
const withLabels = (names: readonly string[]): Collection => {
  const { groups: _, ...rest } = collection(names)
  return rest
}
const names = (count: number) => Array.from({ length: count }, (_, i) => `example ${i}`)
const share = (all: readonly string[], split: PeerSplit, heldOut = 0.1) =>
  Array.from(choose(withLabels(all), { kind: 'test', heldOut, split }).training, (place) => all[place]!)

const SPLITS = [
  { by: 'iid' },
  { by: 'dirichlet', alpha: 0.3 },
  { by: 'quantity', alpha: 0.5 },
  { by: 'class', classesPerPeer: 2 }
] as const

describe('what is held out', () => {
  it('hangs on the content alone, whatever the order', () => {
    fc.assert(
      fc.property(fc.uniqueArray(fc.string(), { minLength: 2, maxLength: 60 }), fc.nat(), (all, turn) => {
        const held = (list: readonly string[]) =>
          Array.from(holdOut(withLabels(list), 0.25).heldOut, (place) => list[place]!).sort()
        const rotated = [...all.slice(turn % all.length), ...all.slice(0, turn % all.length)]
        expect(held(rotated)).toEqual(held(all))
        expect(held(all.toReversed())).toEqual(held(all))
      })
    )
  })

  it('is never nothing where two differ, nothing where all are alike, and nothing if so wished', () => {
    expect(holdOut(withLabels(['x', 'y']), 0.001)).toMatchObject({ heldOut: { length: 1 }, training: { length: 1 } })
    expect(holdOut(withLabels(['x', 'x', 'x']), 0.5)).toMatchObject({ heldOut: { length: 0 }, training: { length: 3 } })
    expect(holdOut(withLabels(names(50)), 0)).toMatchObject({ heldOut: { length: 0 }, training: { length: 50 } })
  })
})

describe('a split', () => {
  it.each(SPLITS)('gives every training example to one peer, and holds the same out on each: %j', (scheme) => {
    const all = names(240)
    const shares = Array.from({ length: 4 }, (_, peer) => share(all, { ...scheme, peers: 4, peer }))
    const trained = share(all, { ...scheme, peers: 4 })
    expect(shares.flat().sort()).toEqual([...trained].sort())
    expect(new Set(shares.flat()).size).toBe(trained.length)
    const held = [0, 3].map((peer) => [
      ...choose(withLabels(all), { kind: 't', heldOut: 0.1, split: { ...scheme, peers: 4, peer } }).heldOut
    ])
    expect(held[0]).toEqual(held[1])
  })

  it.each(SPLITS)('deals the same examples whatever their order in the file: %j', (scheme) => {
    const all = names(160)
    const split = { ...scheme, peers: 5, peer: 2 }
    expect(share(all.toReversed(), split).sort()).toEqual(share(all, split).sort())
    expect(share(all, { ...split, seed: 'other' }).sort()).not.toEqual(share(all, split).sort())
  })

  it('prints who holds what', () => {
    const { summary } = choose(withLabels(names(200)), {
      kind: 't',
      heldOut: 0,
      split: { by: 'class', classesPerPeer: 1, peers: 4, peer: 1 }
    })
    expect(summary.split).toMatchObject({ by: 'class (1 a peer)', peer: 1, columns: LABELS })
    const table = summary.split!.peers
    expect(table.every((row) => row.filter((count) => count > 0).length === 2)).toBe(true)
    expect(table.map((row) => row.at(-1)).reduce((sum, count) => sum! + count!, 0)).toBe(200)
    expect(summary.labels!.reduce((sum, { training }) => sum + training, 0)).toBe(table[1]!.at(-1))
  })

  it('by quantity gives shares of unequal size, by iid of equal size', () => {
    const sizes = (scheme: (typeof SPLITS)[number]) =>
      choose(withLabels(names(1000)), {
        kind: 't',
        heldOut: 0,
        split: { ...scheme, peers: 5 }
      }).summary.split!.peers.map((row) => row.at(-1)!)
    expect(sizes({ by: 'iid' })).toEqual([200, 200, 200, 200, 200])
    const skewed = sizes({ by: 'quantity', alpha: 0.5 })
    expect(skewed.reduce((sum, count) => sum + count, 0)).toBe(1000)
    expect(Math.max(...skewed)).toBeGreaterThan(2 * Math.min(...skewed))
  })

  it('refuses a peer that is none of them, a column that is not there, and classes without labels', () => {
    const { labels: _, ...unlabelled } = withLabels(names(20))
    const go =
      (split: PeerSplit, of: Collection = withLabels(names(20))) =>
      () =>
        choose(of, { kind: 't', heldOut: 0, split })
    const bad = expect.objectContaining({ code: 'data/bad-split' })
    expect(go({ by: 'iid', peers: 3, peer: 3 })).toThrowError(bad)
    expect(go({ by: 'column', column: 'speaker', peers: 3 })).toThrowError(bad)
    expect(go({ by: 'class', classesPerPeer: 1, peers: 3 }, unlabelled)).toThrowError(bad)
    expect(go({ by: 'iid', peers: 3 }, unlabelled)).not.toThrow()
  })
})

describe('a split of a table', () => {
  const task: TaskSpec = { kind: 'sequence-classification', labels: ['cats', 'dogs'] }
  const model = { inputs: [{ name: 'input_ids', shape: ['b', 's'] }] }
  // Speaker i speaks 8 + i times: s4 the most.
  const rows = Array.from({ length: 5 }, (_, speaker) =>
    Array.from({ length: 8 + speaker }, (_, i) =>
      JSON.stringify({ text: `${'the cat '.repeat(speaker)}${'ran '.repeat(i)}`, label: i % 2, speaker: `s${speaker}` })
    )
  ).flat()
  const open = async (split: PeerSplit, of: TaskSpec = task) => {
    const spec: JsonlSpec = {
      kind: 'jsonl',
      path: await temporaryFile(rows.join('\n')),
      tokenizer: await temporaryTokenizer(),
      sequenceLength: 64,
      seed: 's',
      heldOut: 0,
      split
    }
    return openDataset(spec, of, model)
  }

  it('by column keeps groups together, the largest dealt first', async () => {
    const { summary, size } = await open({ by: 'column', column: 'speaker', peers: 2, peer: 0 })
    // By size s4 s3 s2 s1 s0, dealt in turn: s4, s2, s0 to the first peer.
    expect(summary?.split).toEqual({
      by: 'column speaker',
      peer: 0,
      columns: ['s4', 's3', 's2', 's1', 's0'],
      peers: [
        [12, 0, 10, 0, 8, 30],
        [0, 11, 0, 9, 0, 20]
      ]
    })
    expect(size).toBe(30)
  })

  it('may go by another column than the label, and serve a language model, too', async () => {
    const { summary } = await open({ by: 'dirichlet', alpha: 0.2, column: 'speaker', peers: 3 }, { kind: 'causal-lm' })
    expect(summary?.split?.columns.toSorted()).toEqual(['s0', 's1', 's2', 's3', 's4'])
    expect(summary?.split?.peers.map((row) => row.at(-1)!).reduce((sum, count) => sum + count, 0)).toBe(50)
    await expect(open({ by: 'column', column: 'writer', peers: 2 })).rejects.toMatchObject({
      code: 'data/bad-row',
      facts: { line: 1, column: 'writer' }
    })
  })
})
