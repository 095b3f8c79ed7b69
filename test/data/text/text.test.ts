import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { openDataset } from '../../../src/data/source.js'
import type { TextSpec } from '../../../src/data/spec.js'
import { speakersOfPeer, splitSpeakers } from '../../../src/data/text/speakers.js'
import { packSpeakers, packTokens } from '../../../src/data/text/text.js'
import { openTokenizer } from '../../../src/data/text/tokenizer.js'
import { hasShared, idsOf, SHARED, temporaryFile, temporaryTokenizer } from '../fixtures.js'

const LM = { kind: 'causal-lm' } as const
const llama = { inputs: ['input_ids', 'attention_mask'].map((name) => ({ name, shape: ['batch', 'seq'] })) }

describe('packing', () => {
  it('puts BOS in front of every piece and drops the rest', () => {
    const pieces = packTokens(Int32Array.of(5, 6, 7, 8, 9), 1, 3)
    expect(pieces.map(({ values }) => [...values])).toEqual([
      [1, 5, 6],
      [1, 7, 8]
    ])
    expect(packTokens(Int32Array.of(5, 6, 7, 8, 9), undefined, 3).map(({ values }) => [...values])).toEqual([[5, 6, 7]])
  })

  it('refuses a length that leaves nothing to predict', () => {
    expect(() => packTokens(Int32Array.of(5), undefined, 1)).toThrow(
      expect.objectContaining({ code: 'data/bad-sequence-length' })
    )
  })
})

describe('the split by speaker', () => {
  const play = [
    'A title',
    'FIRST:\nOne line.',
    'SECOND LORD:\nA much longer speech\nin two lines.',
    'FIRST:\nAnother.',
    'THIRD:\nNo.'
  ]

  it('joins the speeches of each, the one with the most to say first', () => {
    expect(splitSpeakers(play.join('\n\n'))).toEqual([
      { name: 'SECOND LORD', text: 'A much longer speech\nin two lines.' },
      { name: 'FIRST', text: 'One line.\n\nAnother.' },
      { name: 'THIRD', text: 'No.' }
    ])
    expect(splitSpeakers(play.join('\n \n\n'), 2).map(({ name }) => name)).toEqual(['SECOND LORD', 'FIRST'])
  })

  it('deals speakers in order of size', () => {
    expect(speakersOfPeer(32, 3, 8)).toEqual([3, 11, 19, 27])
    expect(
      Array.from({ length: 3 }, (_, peer) => speakersOfPeer(7, peer, 3))
        .flat()
        .toSorted()
    ).toEqual([0, 1, 2, 3, 4, 5, 6])
  })
})

describe('a text file', () => {
  const text = (words: number) => Array.from({ length: words }, (_, i) => ['the', 'cat', 'dog'][i % 3]).join(' ')
  const spec = async (content: string, extra: Partial<TextSpec> = {}): Promise<TextSpec> => ({
    kind: 'text',
    path: await temporaryFile(content, 'input.txt'),
    tokenizer: await temporaryTokenizer({ bos_token: 'a' }),
    sequenceLength: 4,
    seed: 's',
    ...extra
  })

  it('holds out the first tenth and trains on the rest', async () => {
    const data = await openDataset(await spec(text(90)), LM, llama)
    expect(data.size).toBe(27)
    const [batch, ...others] = [...data.evaluation(4)]
    expect(others).toEqual([])
    expect([...batch!.inputs.input_ids!.data.slice(0, 4)]).toEqual(idsOf('a', 'the', 'cat', 'dog'))
    expect([...batch!.labels.data.slice(0, 4)]).toEqual([...idsOf('the', 'cat', 'dog'), -100])
    expect([...batch!.labels.data.slice(12)]).toEqual(Array(4).fill(-100))
  })

  it('is read on a thread of its own where it is long: the same sequences, and a loop that turns meanwhile', async () => {
    const long = await spec(text(60_000), { sequenceLength: 16 })
    let turns = 0
    let ended = false
    const spin = (async () => {
      for (; !ended; turns++) await new Promise(setImmediate)
    })()
    const data = await openDataset(long, LM, llama)
    ended = true
    await spin
    // Tokenised here, it would leave the loop a turn for each file and no more.
    expect(turns).toBeGreaterThan(1000)
    const tokenizer = await openTokenizer(long.tokenizer)
    const pieces = packTokens(tokenizer.encode(text(60_000)), tokenizer.bos, 16)
    expect(data.size).toBe(pieces.length - Math.floor(pieces.length / 10))
    const held = [...data.evaluation(7)].flatMap((batch) => [...batch.inputs.input_ids!.data])
    const expected = pieces.slice(0, Math.floor(pieces.length / 10)).flatMap(({ values }) => [...values])
    expect(held.slice(0, expected.length)).toEqual(expected)
  })

  it('says what is wrong with a long one, and gives it up when asked to', async () => {
    const tokenizer = await temporaryFile('{}', 'tokenizer.json')
    await expect(openDataset(await spec(text(9000), { tokenizer }), LM, llama)).rejects.toMatchObject({
      code: 'data/bad-tokenizer',
      facts: { file: tokenizer }
    })
    const leaving = new AbortController()
    const opening = openDataset(await spec(text(200_000)), LM, llama, { signal: leaving.signal })
    leaving.abort(new Error('leaving'))
    await expect(opening).rejects.toThrow('leaving')
  })

  it('says what is wrong with it', async () => {
    const open = async (wrong: TextSpec) => openDataset(wrong, LM, llama)
    await expect(open(await spec(''))).rejects.toMatchObject({ code: 'data/empty' })
    await expect(open(await spec('the cat'))).rejects.toMatchObject({ code: 'data/empty' })
    await expect(open({ ...(await spec('')), path: '/nowhere.txt' })).rejects.toMatchObject({
      code: 'data/no-file',
      facts: { file: '/nowhere.txt' }
    })
    const split = { by: 'speaker', peers: 2, peer: 2 } as const
    await expect(open(await spec(`A:\n${text(20)}`, { split }))).rejects.toMatchObject({ code: 'data/bad-split' })
    const labels = ['x', 'y']
    await expect(
      openDataset(await spec(text(9)), { kind: 'image-classification', labels }, llama)
    ).rejects.toMatchObject({
      code: 'data/wrong-task',
      facts: { expected: 'causal-lm' }
    })
  })
})

const hasPlay = hasShared('data/tinyshakespeare/input.txt') && hasShared('models/stories260k')
describe.skipIf(!hasPlay)('Shakespeare by speaker (needs ../shared/data and ../shared/models)', () => {
  it('holds out 253 sequences, and eight peers share all the others', async () => {
    const play = await readFile(join(SHARED, 'data/tinyshakespeare/input.txt'), 'utf8')
    const tokenizer = await openTokenizer(join(SHARED, 'models/stories260k/tokenizer.json'))
    expect(
      splitSpeakers(play)
        .map(({ name }) => name)
        .slice(0, 3)
    ).toEqual(['GLOUCESTER', 'DUKE VINCENTIO', 'KING RICHARD II'])
    const all = packSpeakers(play, { by: 'speaker', peers: 8 }, tokenizer, 128)
    expect(all.heldOut.length).toBe(253)
    const one = packSpeakers(play, { by: 'speaker', peers: 8, peer: 3 }, tokenizer, 128)
    expect(one.heldOut).toEqual(all.heldOut)
    expect(all.training.every(({ values }) => values.length === 128 && values[0] === 1)).toBe(true)
    expect(one.training.length).toBeLessThan(all.training.length / 6)
    expect(one.training.length).toBeGreaterThan(all.training.length / 12)
  })
})
