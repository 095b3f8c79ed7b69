import { cp, mkdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import { generate, type GenerateOptions } from '../../src/cli/commands/generate.js'
import { createOutput } from '../../src/cli/output.js'
import { hasShared, SHARED } from '../data/fixtures.js'
import { temporaryFolder } from '../node/folder.js'

const folder = await temporaryFolder()
const model = join(SHARED, 'models/stories260k')
const defaults = { maxTokens: '100', temperature: '0', topK: '0', topP: '1', seed: 'peertune' }

async function printed(options: Partial<GenerateOptions> & { prompt: string }): Promise<string> {
  let text = ''
  const env = { XDG_CACHE_HOME: folder.root }
  await generate(
    { ...defaults, ...options },
    env,
    createOutput((more) => (text += more))
  )
  return text
}

interface Continuation {
  readonly prompt: string
  readonly promptIds: readonly number[]
  readonly ids: readonly number[]
  readonly text: string
}

/** `test/interop/generate.py`, with transformers 5.18. */
const golden = fileURLToPath(new URL('../golden/generate/stories260k.json', import.meta.url))
const expected = JSON.parse(await readFile(golden, 'utf8')) as Continuation[]

describe.skipIf(!hasShared('models/stories260k'))('peertune generate (needs ../shared/models/stories260k)', () => {
  it.each(expected)('$prompt: token for token what transformers generates', async (one) => {
    const { prompt, promptIds, ids, text } = one
    const found: unknown = JSON.parse(await printed({ model, prompt, maxTokens: String(ids.length), json: true }))
    expect(found).toEqual({ of: 'the base model', prompt, promptIds, ids, text, stopped: 'length' })
  })

  it('prints the text as it comes', async () => {
    const { prompt, ids, text } = expected[0] as Continuation
    expect(await printed({ model, prompt, maxTokens: String(ids.length) })).toBe(`${prompt}${text}\n`)
  })

  it('draws another text from another seed, the same from the same', async () => {
    const draw = (seed: string) =>
      printed({ model, prompt: 'One day', maxTokens: '12', temperature: '0.9', topK: '20', topP: '0.9', seed })
    const drawn = await draw('a')
    expect(await draw('a')).toBe(drawn)
    expect(await draw('b')).not.toBe(drawn)
  })

  it('refuses a prompt that the model has no positions for', async () => {
    await expect(printed({ model, prompt: 'word '.repeat(600) })).rejects.toMatchObject({
      code: 'infer/prompt-too-long',
      facts: { expected: 512 }
    })
  })

  it('answers in the chat template of the tokenizer, as transformers does', async () => {
    const file = fileURLToPath(new URL('../golden/generate/stories260k-chat.json', import.meta.url))
    const { template, promptIds, ids } = JSON.parse(await readFile(file, 'utf8')) as Record<string, unknown>
    const tokenizer = folder.at('chat')
    await mkdir(tokenizer)
    await cp(join(model, 'tokenizer.json'), join(tokenizer, 'tokenizer.json'))
    const config = JSON.parse(await readFile(join(model, 'tokenizer_config.json'), 'utf8')) as object
    await folder.write('chat/tokenizer_config.json', JSON.stringify({ ...config, chat_template: template }))
    const chat = { chat: true, system: 'Tell a story.', prompt: 'A dog, please!', maxTokens: '12', json: true }
    expect(JSON.parse(await printed({ model, tokenizer, ...chat }))).toMatchObject({ promptIds, ids })
    await expect(printed({ model, ...chat })).rejects.toMatchObject({ code: 'data/no-chat-template' })
  })

  it('finds what belongs to a model one folder up', async () => {
    const nested = folder.at('nested')
    await mkdir(join(nested, 'onnx'), { recursive: true })
    for (const file of ['config.json', 'tokenizer.json', 'tokenizer_config.json'])
      await cp(join(model, file), join(nested, file))
    await cp(join(model, 'model.onnx'), join(nested, 'onnx/model.onnx'))
    const text = await printed({ model: nested, prompt: 'Once upon a time', maxTokens: '5' })
    expect(text).toBe('Once upon a time, there was a little\n')
  })
})

it.each([
  [{ topP: '0' }, /--top-p: expected a number above 0 and at most 1, got 0/],
  [{ topK: '1.5' }, /--top-k: expected a whole number from 0 to/],
  [{ temperature: '-1' }, /--temperature: expected a number from 0/],
  [{ maxTokens: '' }, /--max-tokens: expected a whole number from 1/],
  [{}, /Expected one of --model, --config and --data-dir/]
])('says what is wrong with %j', (flags, message) =>
  expect(printed({ prompt: 'x', ...flags })).rejects.toThrow(message)
)
