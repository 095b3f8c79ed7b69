import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { openTokenizer } from '../../../src/data/text/tokenizer.js'
import { hasShared, idsOf, SHARED, temporaryFile, temporaryTokenizer } from '../fixtures.js'

describe('the tokenizer', () => {
  it('reads a tokenizer.json alone, with special tokens only where they are wanted', async () => {
    const tokenizer = await openTokenizer(await temporaryTokenizer())
    expect([...tokenizer.encode('The cats sat.')]).toEqual(idsOf('the', 'cat', '##s', 'sat', '.'))
    expect([...tokenizer.encodeWithSpecials('a dog', 8)]).toEqual(idsOf('[CLS]', 'a', 'dog', '[SEP]'))
    expect(tokenizer.bos).toBe(idsOf('[CLS]')[0])
    expect(tokenizer.eos).toBeUndefined()
    expect(tokenizer.pad).toBe(0)
  })

  it('keeps the closing special token of a row it cuts', async () => {
    const tokenizer = await openTokenizer(await temporaryTokenizer())
    expect([...tokenizer.encodeWithSpecials('the cat sat.', 4)]).toEqual(idsOf('[CLS]', 'the', 'cat', '[SEP]'))
  })

  it('takes the names of special tokens from tokenizer_config.json', async () => {
    const folder = await temporaryTokenizer({ bos_token: 'a', eos_token: { content: '[SEP]' }, pad_token: '.' })
    const tokenizer = await openTokenizer(join(folder, 'tokenizer.json'))
    expect([tokenizer.bos, tokenizer.eos, tokenizer.pad]).toEqual(idsOf('a', '[SEP]', '.'))
  })

  it('says which file is no tokenizer', async () => {
    const absent = openTokenizer('/nowhere/at/all')
    await expect(absent).rejects.toMatchObject({
      code: 'data/no-tokenizer',
      facts: { file: '/nowhere/at/all/tokenizer.json' }
    })
    const notJson = await temporaryFile('{ not json', 'tokenizer.json')
    await expect(openTokenizer(notJson)).rejects.toMatchObject({ code: 'data/bad-tokenizer', facts: { file: notJson } })
    const otherJson = await temporaryFile('{"model": {"type": "Nonsense"}}', 'tokenizer.json')
    await expect(openTokenizer(otherJson)).rejects.toMatchObject({ code: 'data/bad-tokenizer' })
  })

  it.skipIf(!hasShared('models/stories260k'))('reads a Llama tokenizer (needs ../shared/models)', async () => {
    const tokenizer = await openTokenizer(join(SHARED, 'models/stories260k'))
    expect([tokenizer.bos, tokenizer.eos]).toEqual([1, 2])
    // What llama2.c's own tokenizer gives for this text, which its test suite quotes.
    expect([...tokenizer.encode('Once upon a time')]).toEqual([403, 407, 261, 378])
  })
})
