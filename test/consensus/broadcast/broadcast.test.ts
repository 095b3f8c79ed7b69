import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { type Rng, seededRng } from '../../../src/base/rng.js'
import { float32Codec } from '../../../src/codec/coders/float32.js'
import { GENESIS, type Head, type Update } from '../../../src/codec/wire/update.js'
import { createAdoption } from '../../../src/consensus/broadcast/adoption.js'
import { compactSurplus } from '../../../src/consensus/broadcast/compaction.js'
import { headsOf, heldBy, lacks, sameHeads } from '../../../src/consensus/broadcast/sync.js'
import { MAX_WAITING } from '../../../src/consensus/broadcast/types.js'
import type { Broadcaster } from '../../../src/consensus/broadcast/broadcaster.js'
import {
  contributionOf,
  MAX_AUTHORS,
  MAX_SEQUENCE,
  MAX_UNITS,
  unitsFromBytes,
  unitsToBytes,
  unitsHash
} from '../../../src/consensus/broadcast/fixed-point.js'
import { broadcasterOf, configOf, reference, SIZE, synchronise, written } from './broadcasters.js'
import { runs } from '../../counts.js'

const AUTHORS = ['anna', 'bert', 'cleo', 'dora']

const cache = new Map<string, readonly Update[]>()

/** Every author's chain, `lengths[i]` updates long. */
const chainsOf = (lengths: readonly number[]): readonly (readonly Update[])[] =>
  lengths.map((length, i) => chain(AUTHORS[i]!).slice(0, length))

/** The first MAX_WAITING + 2 updates of an author; a shorter chain is the beginning of a longer one. */
function chain(author: string): readonly Update[] {
  const known = cache.get(author)
  if (known !== undefined) return known
  const made: Update[] = []
  for (let sequence = 1; sequence <= MAX_WAITING + 2; sequence++)
    made.push(written({ author, sequence, previous: made.at(-1)?.hash ?? GENESIS }))
  cache.set(author, made)
  return made
}

const deliver = (to: Broadcaster, updates: Iterable<Update>): void => {
  for (const update of updates) to.dispatch({ type: 'update', update, from: update.author })
}

/** The sum of what counts, in arbitrary precision: somebody else's arithmetic. */
function sumOf(updates: readonly Update[]): readonly bigint[] {
  const sum = Array.from({ length: SIZE }, () => 0n)
  for (const update of updates) {
    const step = contributionOf(configOf('x').rule, update)
    if (!step.ok) throw new Error('not to be decoded')
    step.value.indices.forEach((index, k) => {
      sum[index] = sum[index]! + BigInt(step.value.units[k]!)
    })
  }
  return sum
}

const bits = (broadcaster: Broadcaster): readonly bigint[] => [...broadcaster.saved().units].map(BigInt)

/** What counts of a set of updates, written down anew from the rule in words. */
function countedOf(known: readonly Update[]): readonly Update[] {
  return AUTHORS.flatMap((author) => {
    const counted: Update[] = []
    for (let sequence = 1; ; sequence++) {
      const here = known.filter((update) => update.author === author && update.sequence === sequence)
      const distinct = [...new Map(here.map((update) => [update.hash, update])).values()].toSorted((a, b) =>
        a.hash < b.hash ? -1 : 1
      )
      const first = distinct[0]
      if (first === undefined) return counted
      if (distinct.length > 1) return [...counted, first]
      if (first.previous !== (counted.at(-1)?.hash ?? GENESIS)) return counted
      counted.push(first)
    }
  })
}

describe('replicas', () => {
  it('hold the same bits whatever the order, repetitions and the way updates came', () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 0, max: 12 }), { minLength: 2, maxLength: 4 }),
        fc.string(),
        fc.integer({ min: 1, max: 4 }),
        (lengths, seed, peers) => {
          const all = chainsOf(lengths).flat()
          const rng = seededRng(seed)
          for (let peer = 0; peer < peers; peer++) {
            const broadcaster = broadcasterOf(`p${peer}`)
            deliver(broadcaster, rng.shuffle([...all, ...all.filter(() => rng.integer(3) === 0)]))
            expect(bits(broadcaster)).toEqual(sumOf(all))
            expect(broadcaster.live).toEqual(broadcaster.replica)
          }
        }
      ),
      { numRuns: runs(60) }
    )
  })

  it('come together after partitions, each with what it happened to hear, by telling each other what they lack', () => {
    fc.assert(
      fc.property(fc.string(), fc.integer({ min: 2, max: 5 }), (seed, peers) => {
        const all = chainsOf([6, 9, 3, 11]).flat()
        const rng = seededRng(seed)
        const network = Array.from({ length: peers }, (_, i) => broadcasterOf(`p${i}`))
        for (const one of network)
          deliver(
            one,
            rng.shuffle(all).filter(() => rng.integer(2) === 0)
          )
        // Everything is somewhere.
        for (const [i, update] of all.entries()) deliver(network[i % peers]!, [update])
        settle(network, rng)
        for (const one of network) expect(bits(one)).toEqual(sumOf(all))
      }),
      { numRuns: runs(60) }
    )
  })

  it('agree about an author that equivocated, whoever has heard which part of them first', () => {
    fc.assert(
      fc.property(
        fc.string(),
        fc.integer({ min: 2, max: 4 }),
        fc.array(fc.record({ author: fc.integer({ min: 0, max: 3 }), at: fc.integer({ min: 1, max: 6 }) }), {
          minLength: 1,
          maxLength: 3
        }),
        (seed, peers, forks) => {
          const rng = seededRng(seed)
          const chains = chainsOf([6, 6, 6, 6])
          const all = [...chains.flat(), ...forks.flatMap(({ author, at }, n) => forked(chains[author]!, at, n))]
          const network = Array.from({ length: peers }, (_, i) => broadcasterOf(`p${i}`))
          for (const one of network)
            deliver(
              one,
              rng.shuffle(all).filter(() => rng.integer(3) > 0)
            )
          for (const [i, update] of all.entries()) deliver(network[(i * 7) % peers]!, [update])
          settle(network, rng)
          const counted = network.map(bits)
          for (const one of counted) expect(one).toEqual(counted[0])
          for (const one of network) expect(sameHeads(headsOf(one.state()), headsOf(network[0]!.state()))).toBe(true)
          // Every fork was seen by everybody, and where it did for the first time.
          for (const { author } of forks) {
            const first = Math.min(...forks.filter((fork) => fork.author === author).map(({ at }) => at))
            for (const one of network) expect(one.state().authors.get(AUTHORS[author]!)?.stop?.[0].sequence).toBe(first)
          }
          expect(counted[0]).toEqual(sumOf(countedOf(all)))
        }
      ),
      { numRuns: runs(60) }
    )
  })

  it('start again from what was saved and the log behind it, to the bit', () => {
    const [anna, bert] = chainsOf([5, 4]) as [readonly Update[], readonly Update[]]
    const before = broadcasterOf('p0')
    deliver(before, [...anna.slice(0, 2), bert[1]!])
    const again = broadcasterOf('p0', { saved: before.saved() })
    again.replay([anna[2]!, bert[0]!, anna[2]!].map((update) => ({ kind: 'update', update })))
    deliver(before, [bert[0]!, anna[2]!])
    expect(bits(again)).toEqual(bits(before))
    expect(again.live).toEqual(before.live)
    expect(bits(before)).toEqual(sumOf([...anna.slice(0, 3), ...bert.slice(0, 2)]))
  })
})

/** Another chain from number `at` on, as long as the first. */
function forked(chain: readonly Update[], at: number, salt: number): readonly Update[] {
  const second: Update[] = []
  for (let sequence = at; sequence <= chain.length; sequence++)
    second.push(
      written({
        author: chain[0]!.author,
        sequence,
        previous: second.at(-1)?.hash ?? chain[at - 2]?.hash ?? GENESIS,
        samples: 80 + salt,
        totalSamples: 300
      })
    )
  return second
}

/** Random pairs until nothing goes over any more. */
function settle(network: readonly Broadcaster[], rng: Rng): void {
  for (let quiet = 0, rounds = 0; quiet < 2 * network.length ** 2; rounds++) {
    const [a, b] = rng.shuffle(network.map((_, i) => i)) as [number, number]
    const before = network.map((one) => one.state())
    synchronise(network[a]!, network[b]!, [`p${a}`, `p${b}`])
    quiet = network.every((one, i) => one.state() === before[i]) ? quiet + 1 : 0
    if (rounds > 10_000) throw new Error('they never come together')
  }
}

describe('a step', () => {
  const rule = { codec: float32Codec, size: 4, outerStep: 3, maxStep: 0.25 }
  const stepOf = (values: readonly number[], changes: object = {}): readonly number[] => {
    const payload = float32Codec.encode(Float32Array.from(values), seededRng('none'))
    const update = {
      ...written({ author: 'anna', sequence: 1, previous: GENESIS }),
      payload,
      samples: 1,
      totalSamples: 4
    }
    const step = contributionOf({ ...rule, ...changes }, update)
    if (!step.ok) throw new Error('refused')
    const dense = new Array<number>(4).fill(0)
    step.value.indices.forEach((index, k) => {
      dense[index] = step.value.units[k]! / 2 ** 30
    })
    return dense
  }

  it('is the outer step times the share of the examples, on the grid, within what one update may do', () => {
    // 3 * 1/4 * 2^-5; 3 * 1/4 * 100 and -7 are beyond 1/4; 3/4 * 2^-31 rounds to nothing of the grid.
    expect(stepOf([2 ** -5, 100, -7, 2 ** -31])).toEqual([0.75 * 2 ** -5, 0.25, -0.25, 0])
    expect(stepOf([2 ** -29, -(2 ** -29), 3e38, 1e-44])).toEqual([2 * 2 ** -30, -1 * 2 ** -30, 0.25, 0])
  })

  it('is scaled down to the largest norm', () => {
    // ||(0.03, 0.04)|| = 0.05, five times what is allowed: units of 2^-30 round by half of one.
    const [a, b] = stepOf([0.03, 0, 0.04, 0], { maxNorm: 0.01 }).filter((value) => value !== 0) as [number, number]
    expect(Math.abs(a - 0.75 * 0.006)).toBeLessThan(2 ** -30)
    expect(Math.abs(b - 0.75 * 0.008)).toBeLessThan(2 ** -30)
  })

  it('refuses what is not finite, and never overflows: the largest sum there can be is an exact float64', () => {
    const bytes = new Uint8Array(16)
    new DataView(bytes.buffer).setFloat32(4, Number.NaN, true)
    const update = { ...written({ author: 'anna', sequence: 1, previous: GENESIS }), payload: bytes }
    expect(contributionOf(rule, update)).toMatchObject({ ok: false, verdict: { code: 'codec/not-finite' } })
    expect(BigInt(MAX_AUTHORS) * BigInt(MAX_SEQUENCE) * BigInt(MAX_UNITS)).toBeLessThan(2n ** 53n)
    expect(stepOf([3e38, -3e38, 1, 0], { maxStep: 1 })).toEqual([1, -1, 0.75, 0])
  })

  it('sums go to bytes and back; what is no integer below 2^53 does not', () => {
    const units = Float64Array.from([0, -5, 2 ** 53 - 1, -(2 ** 40)])
    expect(unitsFromBytes(unitsToBytes(units), 4)).toEqual(units)
    for (const bad of [0.5, 2 ** 53, Number.NaN, Number.POSITIVE_INFINITY, -0])
      expect(unitsFromBytes(unitsToBytes(Float64Array.from([1, bad])), 2)).toBeUndefined()
    expect(unitsFromBytes(unitsToBytes(units), 3)).toBeUndefined()
  })
})

describe('an update', () => {
  const first = written({ author: 'anna', sequence: 1, previous: GENESIS })
  const codesOf = (broadcaster: Broadcaster, update: Update): readonly string[] =>
    broadcaster
      .dispatch({ type: 'update', update, from: 'bert' })
      .map((effect) =>
        effect.type === 'penalise' && effect.verdict.verdict !== 'accept' ? effect.verdict.code : effect.type
      )

  it.each([
    ['broadcast/other-federation', { federation: 'e'.repeat(64) }],
    ['broadcast/other-schema', { schema: 'e'.repeat(64) }],
    ['broadcast/absurd-update', { samples: 0 }],
    ['broadcast/absurd-update', { samples: 400 }],
    ['broadcast/absurd-update', { sequence: 2 }],
    ['broadcast/absurd-update', { sequence: MAX_SEQUENCE + 1, previous: 'a'.repeat(64) }],
    ['broadcast/absurd-update', { previous: 'a'.repeat(64) }],
    ['codec/wrong-length', { payload: new Uint8Array(3) }]
  ])('is refused by everybody alike: %s', (code, changes) => {
    const update = written({ author: 'anna', sequence: 1, previous: GENESIS, ...changes })
    const broadcaster = broadcasterOf('p0')
    expect(codesOf(broadcaster, update)).toEqual([code])
    expect(broadcaster.state().authors.size).toBe(0)
  })

  it('of somebody the federation does not name, or of one author too many, does not count', () => {
    expect(codesOf(broadcasterOf('p0', { authors: ['bert', 'p0'] }), first)).toEqual(['broadcast/not-an-author'])
    const full = broadcasterOf('p0', { maxAuthors: 1 })
    deliver(full, [first])
    expect(codesOf(full, written({ author: 'bert', sequence: 1, previous: GENESIS }))).toEqual([
      'broadcast/too-many-authors'
    ])
  })

  it('waits for those before it, but not too many of them', () => {
    const chain = chainsOf([MAX_WAITING + 2])[0]!
    const broadcaster = broadcasterOf('p0')
    for (const update of chain.slice(1, MAX_WAITING))
      expect(codesOf(broadcaster, update)).toEqual(['record', 'missing'])
    expect(codesOf(broadcaster, chain.at(-1)!)).toEqual(['broadcast/too-far-ahead', 'missing'])
    expect(broadcaster.replica).toEqual(reference)
    expect(codesOf(broadcaster, chain[0]!)).toEqual(['record'])
    expect(bits(broadcaster)).toEqual(sumOf(chain.slice(0, MAX_WAITING)))
    expect(codesOf(broadcaster, chain[3]!)).toEqual(['broadcast/duplicate'])
  })

  it('that contradicts another of its author is the proof against it', () => {
    const [chain] = chainsOf([4])
    const other = written({ author: 'anna', sequence: 3, previous: chain![1]!.hash, samples: 9 })
    const broadcaster = broadcasterOf('p0')
    deliver(broadcaster, chain!)
    expect(codesOf(broadcaster, other)).toEqual(['record', 'equivocation', 'broadcast/equivocation'])
    const smaller = other.hash < chain![2]!.hash ? other : chain![2]!
    expect(bits(broadcaster)).toEqual(sumOf([chain![0]!, chain![1]!, smaller]))
    expect(codesOf(broadcaster, chain![3]!)).toEqual(['broadcast/author-stopped'])
    expect(codesOf(broadcaster, chain![2]!)).toEqual(['broadcast/duplicate'])
  })
})

describe('our own updates', () => {
  it('tell everything in the end: what was told and what is kept is what was learned', () => {
    const broadcaster = broadcasterOf('p0')
    const learned = Float64Array.from({ length: SIZE }, (_, i) => Math.cos(3 * i) / 7)
    for (let i = 0; i < SIZE; i++) broadcaster.live[i] = broadcaster.live[i]! + learned[i]!
    const [, published] = broadcaster.publish({ samples: 1, totalSamples: 3 })
    if (published?.type !== 'publish') throw new Error('nothing published')
    const told = configOf('p0').rule.codec.decode(published.update.payload, SIZE)
    const { residual } = broadcaster.saved()
    if (!told.ok) throw new Error('unreadable')
    for (let i = 0; i < SIZE; i++) expect(told.value[i]! + residual[i]!).toBeCloseTo(learned[i]!, 6)
    // outer step 3 at a third of the examples: what was told counts once.
    for (let i = 0; i < SIZE; i++) expect(broadcaster.replica[i]! - reference[i]!).toBeCloseTo(told.value[i]!, 6)
    expect(broadcaster.live).toEqual(broadcaster.replica)
    // With nothing learned since, the next one tells of the residual, decayed.
    const [, next] = broadcaster.publish({ samples: 1, totalSamples: 3 })
    if (next?.type !== 'publish') throw new Error('nothing published')
    const rest = configOf('p0').rule.codec.decode(next.update.payload, SIZE)
    const left = broadcaster.saved().residual
    if (!rest.ok) throw new Error('unreadable')
    for (let i = 0; i < SIZE; i++) expect(rest.value[i]! + left[i]!).toBeCloseTo(0.95 * residual[i]!, 6)
    expect(next.update.previous).toBe(published.update.hash)
  })

  it('may go on at their own: at the replica and the decayed rest, which the next one tells once and not twice', () => {
    const broadcaster = broadcasterOf('p0', { resumeAt: 'own' })
    const learned = Float64Array.from({ length: SIZE }, (_, i) => Math.cos(3 * i) / 7)
    for (let i = 0; i < SIZE; i++) broadcaster.live[i] = broadcaster.live[i]! + learned[i]!
    broadcaster.publish({ samples: 1, totalSamples: 3 })
    const { residual } = broadcaster.saved()
    for (let i = 0; i < SIZE; i++)
      expect(broadcaster.live[i]! - broadcaster.replica[i]!).toBeCloseTo(0.95 * residual[i]!, 6)
    for (let i = 0; i < SIZE; i++) broadcaster.live[i] = broadcaster.live[i]! + 0.01
    const [, next] = broadcaster.publish({ samples: 1, totalSamples: 3 })
    if (next?.type !== 'publish') throw new Error('nothing published')
    const told = configOf('p0').rule.codec.decode(next.update.payload, SIZE)
    const left = broadcaster.saved().residual
    if (!told.ok) throw new Error('unreadable')
    for (let i = 0; i < SIZE; i++) expect(told.value[i]! + left[i]!).toBeCloseTo(0.95 * residual[i]! + 0.01, 6)
  })

  it('leave local progress alone when those of others come in between', () => {
    const broadcaster = broadcasterOf('p0')
    for (let i = 0; i < SIZE; i++) broadcaster.live[i] = broadcaster.live[i]! + 0.25
    deliver(broadcaster, chainsOf([3])[0]!)
    for (let i = 0; i < SIZE; i++) expect(broadcaster.live[i]! - broadcaster.replica[i]!).toBeCloseTo(0.25, 6)
  })

  it('that the disk has lost come back from the others, and are not written a second time', () => {
    const before = broadcasterOf('p0')
    const others = broadcasterOf('p1')
    const lost = [1, 2, 3].flatMap((n) => {
      before.live[n] = before.live[n]! + 0.5
      return before.publish({ samples: 1, totalSamples: 2 })
    })
    const updates = lost.flatMap((effect) => (effect.type === 'publish' ? [effect.update] : []))
    deliver(others, updates)
    const reborn = broadcasterOf('p0')
    synchronise(reborn, others, ['p0', 'p1'])
    expect(bits(reborn)).toEqual(bits(before))
    const [, next] = reborn.publish({ samples: 1, totalSamples: 2 })
    expect(next).toMatchObject({ type: 'publish', update: { sequence: 4, previous: updates[2]!.hash } })
  })

  it('end where another node has written with our key', () => {
    const [one, two] = [broadcasterOf('p0'), broadcasterOf('p0')]
    one.live[0] = 9
    const written = [one, two].flatMap((node) => node.publish({ samples: 1, totalSamples: 2 }))
    deliver(
      one,
      written.flatMap((effect) => (effect.type === 'publish' ? [effect.update] : []))
    )
    expect(() => one.publish({ samples: 1, totalSamples: 2 })).toThrowError(/written updates with the key/)
  })
})

describe('old updates', () => {
  const chains = chainsOf([7, 5, 6])

  it('are forgotten once all have them; a newcomer takes the sum that several confirm, and goes on from there', () => {
    const [one, two] = [broadcasterOf('p0'), broadcasterOf('p1')]
    deliver(one, chains.flat())
    deliver(two, [...chains[0]!, ...chains[1]!.slice(0, 3), ...chains[2]!])
    const stable = heldBy(one.state(), [headsOf(two.state())], 2)
    expect(Object.fromEntries(stable)).toEqual({ anna: 7, bert: 3, cleo: 6 })
    for (const [author, upTo] of stable) one.dispatch({ type: 'compact', author, upTo })
    expect([...one.state().authors.values()].map(({ held }) => held.length)).toEqual([0, 2, 0])
    expect(bits(one)).toEqual(sumOf(chains.flat()))

    const newcomer = broadcasterOf('p2')
    deliver(newcomer, chains[1]!.slice(4))
    synchronise(newcomer, one, ['p2', 'p0'])
    expect(lacks(newcomer.state(), headsOf(one.state()))).toBe(true)
    const snapshot = one.snapshot()
    // Who has not heard so much cannot say; who keeps the bodies can go back to it.
    expect(two.unitsAt(snapshot.heads)).toBeUndefined()
    deliver(two, chains.flat())
    const more = written({ author: 'dora', sequence: 1, previous: GENESIS })
    deliver(two, [more])
    expect(two.unitsAt(snapshot.heads)).toEqual(snapshot.units)
    expect(newcomer.adopt(snapshot)).toBe(true)
    synchronise(newcomer, two, ['p2', 'p1'])
    expect(bits(newcomer)).toEqual(sumOf([...chains.flat(), more]))
    expect(newcomer.live).toEqual(newcomer.replica)
  })

  it('are compacted only where more than two thirds of all that count have them, and all who are connected', () => {
    const maxHeldBytes = 100
    const compacted = (
      said: Readonly<Record<string, readonly Head[]>>,
      connected: readonly string[],
      known: readonly string[]
    ) => {
      const one = broadcasterOf('p0')
      deliver(one, chains.flat())
      const counted = ['anna', 'bert', 'cleo', ...known]
      const parts = {
        said: new Map(Object.entries(said)),
        connected,
        counted,
        around: counted,
        self: 'p0',
        maxHeldBytes
      }
      expect(compactSurplus(one, parts)).toBe([...one.state().authors.values()].some(({ base }) => base > 0))
      return [...one.state().authors.values()].map(({ base }) => base)
    }
    const headsWith = (counts: readonly number[]): readonly Head[] => {
      const other = broadcasterOf('p9')
      deliver(
        other,
        counts.flatMap((count, i) => chains[i]!.slice(0, count))
      )
      return headsOf(other.state())
    }
    const [all, some] = [headsWith([7, 5, 6]), headsWith([7, 2, 0])]
    // The three authors and we ourselves are four: three of them are more than two thirds.
    expect(compacted({ anna: all, bert: all }, [], [])).toEqual([7, 5, 6])
    expect(compacted({ anna: all }, [], [])).toEqual([0, 0, 0])
    // Two more that are known and silent: five of six.
    expect(compacted({ anna: all, bert: all }, [], ['p1', 'p2'])).toEqual([0, 0, 0])
    expect(compacted({ anna: all, bert: all, cleo: some }, [], ['p1'])).toEqual([7, 2, 0])
    // What strangers say counts for nothing, however many they are.
    expect(compacted({ anna: all, s1: all, s2: all, s3: all }, [], [])).toEqual([0, 0, 0])
    // Whoever is connected is waited for, until twice as much is held.
    const patient = {
      said: new Map([
        ['anna', all],
        ['bert', all],
        ['cleo', some]
      ]),
      connected: ['cleo'],
      counted: ['anna', 'bert', 'cleo'],
      around: ['anna', 'bert', 'cleo'],
      self: 'p0'
    }
    const one = broadcasterOf('p0')
    deliver(one, chains.flat())
    const bytes = chains.flat().reduce((sum, { body }) => sum + body.length, 0)
    compactSurplus(one, { ...patient, maxHeldBytes: 0.7 * bytes })
    expect([...one.state().authors.values()].map(({ base }) => base)).toEqual([7, 2, 0])
    compactSurplus(one, { ...patient, maxHeldBytes: 0.1 * bytes })
    expect([...one.state().authors.values()].map(({ base }) => base)).toEqual([7, 5, 6])
    expect(bits(one)).toEqual(sumOf(chains.flat()))
  })

  it('are compacted without those that have been gone for long where there is no more room', () => {
    const bytes = chains.flat().reduce((sum, { body }) => sum + body.length, 0)
    const compacted = (around: readonly string[], maxHeldBytes: number) => {
      const one = broadcasterOf('p0')
      deliver(one, chains.flat())
      const said = new Map([['anna', headsOf(one.state())]])
      compactSurplus(one, { said, connected: [], counted: ['anna', 'bert', 'cleo'], around, self: 'p0', maxHeldBytes })
      return [...one.state().authors.values()].map(({ base }) => base)
    }
    // Eight times as much as may be held is no more room; of two that are left both have everything, of one that one.
    expect(compacted(['anna'], bytes / 8.5)).toEqual([7, 5, 6])
    expect(compacted([], bytes / 8.5)).toEqual([7, 5, 6])
    expect(compacted(['anna'], bytes / 7.5)).toEqual([0, 0, 0])
    expect(compacted(['anna', 'bert'], bytes / 8.5)).toEqual([0, 0, 0])
  })

  it('a sum is believed where two name it, or more than name another, or nobody else can tell', () => {
    const one = broadcasterOf('p0')
    deliver(one, chains.flat())
    one.dispatch({ type: 'compact', author: 'anna', upTo: 4 })
    const snapshot = one.snapshot()
    const believed = (answers: readonly (string | null | undefined)[]): boolean => {
      const adoption = createAdoption('p0', snapshot, ['p0', ...answers.map((_, i) => `other ${i}`)])
      for (const answer of answers) if (adoption.next() !== undefined) adoption.heard(answer)
      return adoption.believed()
    }
    const right = unitsHash(snapshot.units)
    const wrong = 'f'.repeat(64)
    for (const answers of [[right, right, wrong], [right, null], [right, undefined], [right, wrong], [null, null], []])
      expect(believed(answers), String(answers)).toBe(true)
    for (const answers of [[wrong], [wrong, null], [undefined], [null, undefined], [right, wrong, wrong]])
      expect(believed(answers), String(answers)).toBe(false)
  })

  it('that somebody has on another branch, or is ahead of us in, are kept', () => {
    const one = broadcasterOf('p0')
    deliver(one, chains[0]!)
    const own = headsOf(one.state())[0]!
    const upTo = (head: Partial<Head>) => heldBy(one.state(), [[{ ...own, ...head }]], 2).get('anna')
    expect(upTo({})).toBe(7)
    expect(upTo({ sequence: 5, hash: chains[0]![4]!.hash })).toBe(5)
    expect(upTo({ sequence: 5, hash: 'f'.repeat(64) })).toBe(0)
    expect(upTo({ sequence: 9, hash: 'f'.repeat(64) })).toBe(0)
    expect(upTo({ stop: { sequence: 4, hash: 'a'.repeat(64) } })).toBe(3)
  })

  it('as a sum, they are what updates that came early were waiting for', () => {
    const [one, two] = [broadcasterOf('p0'), broadcasterOf('p1')]
    deliver(one, chains[0]!.slice(0, 4))
    deliver(two, chains[0]!.slice(4))
    expect(two.state().authors.get('anna')?.waiting.size).toBe(3)
    one.dispatch({ type: 'compact', author: 'anna', upTo: 4 })
    // Nobody will send them again: they are duplicates.
    expect(two.adopt(one.snapshot())).toBe(true)
    expect(two.state().authors.get('anna')?.waiting.size).toBe(0)
    expect(bits(two)).toEqual(sumOf(chains[0]!))
  })

  it('are not given up for a snapshot without them', () => {
    const [one, two] = [broadcasterOf('p0'), broadcasterOf('p1')]
    deliver(one, chains.flat())
    one.dispatch({ type: 'compact', author: 'anna', upTo: 4 })
    deliver(two, chains[0]!.slice(0, 3))
    const before = bits(one)
    expect(one.adopt(two.snapshot())).toBe(false)
    expect(bits(one)).toEqual(before)
    expect(two.adopt(one.snapshot())).toBe(true)
    expect(bits(two)).toEqual(before)
  })
})
