import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import {
  type ChatTemplate,
  createChatTemplate,
  type Message,
  openChatTemplate
} from '../../../src/data/text/chat-template.js'
import { conversationOf, encodeConversation } from '../../../src/data/text/conversation.js'
import type { Row } from '../../../src/data/formats/row.js'
import { openDataset } from '../../../src/data/source.js'
import { alignTags } from '../../../src/data/text/task.js'
import { openTokenizer } from '../../../src/data/text/tokenizer.js'
import { temporaryFile, temporaryFolder } from '../fixtures.js'

/** What transformers 5.18 made of the same input: see golden/make.py. */
const GOLDEN = join(import.meta.dirname, '../golden')
interface Golden {
  readonly templates: Readonly<Record<'plain' | 'marked', string>>
  readonly pairs: readonly { text: string; pair: string; length: number; ids: number[]; segments: number[] }[]
  readonly wordpiece: readonly Aligned[]
  readonly bytelevel: readonly Aligned[]
  readonly chats: readonly { messages: Message[]; marked: boolean; text: string; ids: number[]; mask: number[] }[]
}
interface Aligned {
  readonly words: string[]
  readonly tags: number[]
  readonly length: number
  readonly ids: number[]
  readonly labels: number[]
}
const golden = JSON.parse(await readFile(join(GOLDEN, 'transformers.json'), 'utf8')) as Golden
const row = (fields: Record<string, unknown>): Row => ({ file: 'chat.jsonl', unit: 'line', place: 3, fields })

describe('two texts', () => {
  it('are tokenised, cut and told apart as transformers does', async () => {
    const tokenizer = await openTokenizer(join(GOLDEN, 'wordpiece'))
    for (const { text, pair, length, ids, segments } of golden.pairs) {
      const got = tokenizer.encodePair(text, pair, length)
      expect([...got.ids], `${text} | ${pair} at ${length}`).toEqual(ids)
      expect([...got.segments]).toEqual(segments)
    }
  })
})

describe('a tokenizer without a post-processor', () => {
  it('puts nothing around texts or between them, and still tells them apart', async () => {
    const folder = await temporaryFolder()
    const definition = JSON.parse(await readFile(join(GOLDEN, 'wordpiece', 'tokenizer.json'), 'utf8')) as object
    await writeFile(join(folder, 'tokenizer.json'), JSON.stringify({ ...definition, post_processor: null }))
    const tokenizer = await openTokenizer(folder)
    const { ids, segments } = tokenizer.encodePair('the cat', 'the cat sat', 64)
    const cat = [...tokenizer.encode('the cat')]
    expect([...ids]).toEqual([...cat, ...tokenizer.encode('the cat sat')])
    expect([...segments]).toEqual([...cat.map(() => 0), ...cat.map(() => 1), 1])
    expect(tokenizer.frame).toEqual({ before: new Int32Array(0), after: new Int32Array(0) })
  })
})

describe('labels of words', () => {
  it.each(['wordpiece', 'bytelevel'] as const)('stand where transformers puts them: %s', async (kind) => {
    const tokenizer = await openTokenizer(join(GOLDEN, kind))
    for (const { words, tags, length, ids, labels } of golden[kind]) {
      const got = alignTags(words, Int32Array.from(tags), tokenizer, length)
      expect([...got.values], words.join(' ')).toEqual(ids)
      expect([...got.labels]).toEqual(labels)
    }
  })

  it('come padded in a batch, and must be as many as the words', async () => {
    const content = [
      '{"tokens":["the","dogs"],"tags":["O","X"]}',
      '{"tokens":["cat"],"tags":[1]}',
      '{"tokens":["cat","sat"],"tags":["X"]}'
    ]
    const open = async (rows: readonly string[]) =>
      openDataset(
        {
          kind: 'jsonl',
          path: await temporaryFile(rows.join('\n')),
          tokenizer: join(GOLDEN, 'wordpiece'),
          sequenceLength: 7,
          seed: 's',
          heldOut: 0
        },
        { kind: 'token-classification', labels: ['O', 'X'] },
        { inputs: [{ name: 'input_ids', shape: ['b', 's'] }] }
      )
    const { labels } = (await open(content.slice(0, 2))).batches(2).next()
    expect(labels.shape).toEqual([2, 7])
    // [CLS] the dog ##s [SEP] and [CLS] cat [SEP], in either order.
    expect([[...labels.data.subarray(0, 7)], [...labels.data.subarray(7)]].sort()).toEqual([
      [-100, 0, 1, -100, -100, -100, -100],
      [-100, 1, -100, -100, -100, -100, -100]
    ])
    await expect(open(content)).rejects.toMatchObject({
      code: 'data/bad-row',
      facts: { line: 3, column: 'tags', expected: '2 labels in column "tags", one a word', got: '1' }
    })
    await expect(open(['{"tokens":["cat"],"tags":["Y"]}'])).rejects.toMatchObject({ facts: { got: '"Y" at word 1' } })
  })
})

describe('conversations', () => {
  it('read as transformers renders them, and only what the assistant says is learned', async () => {
    const tokenizer = await openTokenizer(join(GOLDEN, 'bytelevel'))
    for (const { messages, marked, text, ids, mask } of golden.chats) {
      const template = createChatTemplate(golden.templates[marked ? 'marked' : 'plain'], { eos_token: '<|im_end|>' })
      const conversation = template(messages)
      expect(conversation.text).toBe(text)
      const example = encodeConversation(conversation, tokenizer, 4096)
      expect([...example.values]).toEqual(ids)
      expect([...example.labels!]).toEqual(ids.map((id, i) => (mask[i] === 1 ? id : -100)))
    }
  })

  it('are cut to the length of a sequence, and predicted one token ahead', async () => {
    const [chat] = golden.chats
    const folder = await temporaryFolder()
    for (const name of ['tokenizer.json', 'tokenizer_config.json'])
      await writeFile(join(folder, name), await readFile(join(GOLDEN, 'bytelevel', name)))
    await writeFile(join(folder, 'chat_template.jinja'), golden.templates.plain)
    const length = chat!.ids.length - 4
    const data = await openDataset(
      {
        kind: 'jsonl',
        path: await temporaryFile(JSON.stringify({ chat: chat!.messages })),
        columns: { messages: 'chat' },
        tokenizer: folder,
        sequenceLength: length,
        seed: 's'
      },
      { kind: 'instruction-tuning' },
      { inputs: [{ name: 'input_ids', shape: ['b', 's'] }] }
    )
    const { inputs, labels } = data.batches(1).next()
    expect([...inputs.input_ids!.data]).toEqual(chat!.ids.slice(0, length))
    const learned = chat!.ids.map((id, i) => (chat!.mask[i] === 1 ? id : -100))
    expect([...labels.data]).toEqual([...learned.slice(1, length), -100])
  })

  const template: ChatTemplate = createChatTemplate(golden.templates.plain)
  it.each([
    ['no list', { messages: 'hello' }, '1 to 4096 turns in column "messages"'],
    ['a turn without content', { messages: [{ role: 'user' }] }, '{"role": text, "content": text}'],
    ['nobody who answers', { messages: [{ role: 'user', content: 'x' }] }, 'a turn of the assistant'],
    ['marks of our own', { messages: [{ role: 'assistant', content: '\u{f0000}' }] }, 'text']
  ])('are refused by line and column: %s', (_, fields, expected) => {
    expect(() => conversationOf(row(fields), {}, template)).toThrowError(
      expect.objectContaining({
        code: 'data/bad-row',
        facts: expect.objectContaining({ line: 3, expected, column: 'messages' })
      })
    )
  })

  it('may be a prompt and its completion, or have the roles of ShareGPT', () => {
    const expected = template([
      { role: 'user', content: 'q' },
      { role: 'assistant', content: 'a' }
    ])
    expect(conversationOf(row({ p: 'q', c: 'a' }), { prompt: 'p', completion: 'c' }, template)).toEqual(expected)
    const turns = [
      { from: 'human', value: 'q' },
      { from: 'gpt', value: 'a' }
    ]
    expect(conversationOf(row({ messages: turns }), {}, template)).toEqual(expected)
  })

  it('a template that refuses a row is quoted', () => {
    const strict = createChatTemplate("{{ raise_exception('roles must alternate') }}")
    expect(() => conversationOf(row({ messages: [{ role: 'assistant', content: 'x' }] }), {}, strict)).toThrowError(
      expect.objectContaining({ code: 'data/bad-row', message: expect.stringContaining('roles must alternate') })
    )
  })

  it('a turn that is written differently once others follow is not learned', () => {
    const forgetful = createChatTemplate(
      "{% for m in messages %}{{ m.role + ':' + (m.content if loop.last or m.role == 'user' else '-') + ';' }}{% endfor %}" +
        "{% if add_generation_prompt %}{{ 'assistant:' }}{% endif %}"
    )
    const turns = ['user', 'assistant', 'user', 'assistant'].map((role, i) => ({ role, content: `turn${i}` }))
    const { text, spans } = forgetful(turns)
    expect(spans.map(([from, to]) => text.slice(from, to))).toEqual(['turn3;'])
  })

  it('need a template', async () => {
    const tokenizer = await openTokenizer(join(GOLDEN, 'bytelevel'))
    await expect(openChatTemplate(join(GOLDEN, 'bytelevel'), tokenizer)).rejects.toMatchObject({
      code: 'data/no-chat-template'
    })
    expect(() => createChatTemplate('{% for %}')).toThrowError(
      expect.objectContaining({ code: 'data/bad-chat-template' })
    )
    const listed = {
      ...tokenizer,
      config: {
        chat_template: [
          { name: 'tools', template: 'no' },
          { name: 'default', template: golden.templates.plain }
        ]
      }
    }
    const template = await openChatTemplate(join(GOLDEN, 'bytelevel'), listed)
    expect(template(golden.chats[0]!.messages).text).toBe(golden.chats[0]!.text)
  })
})
