import { readFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { Template } from '@huggingface/jinja'
import { PeertuneError } from '../../base/errors.js'
import { reading, statFile } from '../formats/files.js'
import { contentOf, type Tokenizer } from './tokenizer.js'

/** Bytes of a template file; those in use have below 20 kB. */
const MAX_TEMPLATE_BYTES = 1024 * 1024

/** Private code points that mark what a template calls generated; they never reach a tokenizer. */
const BEGIN = '\u{f0000}'
const END = '\u{f0001}'

/** One turn of a conversation, with whatever else a template may ask for. */
export interface Message {
  readonly role: string
  readonly content: string
  readonly [key: string]: unknown
}

export interface Conversation {
  /** As the model reads it. */
  readonly text: string
  /** What the assistant says: [start, end) in `text`, in order. */
  readonly spans: readonly (readonly [number, number])[]
}

/**
 * `forAnswer`: the text ends where the assistant's next turn begins (`add_generation_prompt`), and has no spans. Throws
 * what the template throws.
 */
export type ChatTemplate = (messages: readonly Message[], forAnswer?: boolean) => Conversation

/**
 * The template of a tokenizer's folder (chat_template.jinja, or `chat_template` of tokenizer_config.json) or of a file.
 * Throws `data/no-chat-template`, `data/bad-chat-template`.
 */
export async function openChatTemplate(
  tokenizerPath: string,
  tokenizer: Tokenizer,
  file?: string
): Promise<ChatTemplate> {
  const folder = tokenizerPath.endsWith('.json') ? dirname(tokenizerPath) : tokenizerPath
  const beside = join(folder, 'chat_template.jinja')
  const source = file === undefined ? await readTemplate(beside).catch(() => undefined) : await readTemplate(file)
  const template = source ?? inConfig(tokenizer.config.chat_template)
  if (template !== undefined) return createChatTemplate(template, specialTokens(tokenizer))
  throw new PeertuneError('data/no-chat-template', `${folder} has no chat template`, {
    facts: { folder },
    hint: 'use the tokenizer of a model made for chat, or name a Jinja file as `chatTemplate`'
  })
}

async function readTemplate(file: string): Promise<string> {
  const { size } = await statFile(file)
  if (size <= MAX_TEMPLATE_BYTES) return reading(file, readFile(file, 'utf8'))
  throw badTemplate(`${file} has ${size} bytes, more than ${MAX_TEMPLATE_BYTES}`)
}

/** A template, or several by name, of which the one called `default` is meant. */
function inConfig(given: unknown): string | undefined {
  if (typeof given === 'string') return given
  if (!Array.isArray(given)) return undefined
  const named = given as readonly { readonly name?: unknown; readonly template?: unknown }[]
  const chosen = named.find(({ name }) => name === 'default') ?? named[0]
  return typeof chosen?.template === 'string' ? chosen.template : undefined
}

const specialTokens = ({ config }: Tokenizer): Record<string, string> =>
  Object.fromEntries(
    Object.entries(config).flatMap(([key, value]) => {
      const content = key.endsWith('_token') ? contentOf(value) : undefined
      return content === undefined ? [] : [[key, content]]
    })
  )

/**
 * Renders as `tokenizer.apply_chat_template(messages, tokenize=False)` does. A template that marks what is generated
 * (`{% generation %}`) is taken at its word, as transformers' assistant mask does. Otherwise an assistant's turn is what
 * the text gains by it beyond the prompt for it; a turn that the template writes differently once others follow (as some
 * drop earlier thoughts) is not learned.
 */
export function createChatTemplate(source: string, tokens: Readonly<Record<string, string>> = {}): ChatTemplate {
  const marked = /\{%-?\s*generation\s*-?%\}/.test(source)
  const template = compile(marked ? withMarks(source) : source)
  const render = (messages: readonly Message[], addPrompt = false): string =>
    template.render({ ...tokens, messages, add_generation_prompt: addPrompt })
  const prompt = (messages: readonly Message[]) => ({ text: readMarks(render(messages, true)).text, spans: [] })
  if (marked) return (messages, forAnswer) => (forAnswer ? prompt(messages) : readMarks(render(messages)))
  return (messages, forAnswer) => {
    if (forAnswer) return prompt(messages)
    const text = render(messages)
    const spans = messages.flatMap(({ role }, turn) => {
      if (role !== 'assistant') return []
      const before = render(messages.slice(0, turn), true)
      const after = turn === messages.length - 1 ? text : render(messages.slice(0, turn + 1))
      const isPart = text.startsWith(after) && after.startsWith(before) && after.length > before.length
      return isPart ? [[before.length, after.length] as const] : []
    })
    return { text, spans }
  }
}

function compile(source: string): Template {
  try {
    return new Template(source)
  } catch (cause) {
    throw badTemplate(cause instanceof Error ? cause.message : String(cause), cause)
  }
}

/** The marks stand inside a block, so that white space around the tags goes the way it did before. */
const withMarks = (source: string): string =>
  source
    .replaceAll(/\{%(-?)\s*generation\s*(-?)%\}/g, `{%$1 if true %}{{ "${BEGIN}" }}{% endif $2%}`)
    .replaceAll(/\{%(-?)\s*endgeneration\s*(-?)%\}/g, `{%$1 if true %}{{ "${END}" }}{% endif $2%}`)

function readMarks(marked: string): Conversation {
  const spans: [number, number][] = []
  let text = ''
  let start = 0
  for (const piece of marked.split(new RegExp(`([${BEGIN}${END}])`, 'u'))) {
    if (piece === BEGIN) start = text.length
    else if (piece === END) spans.push([start, text.length])
    else text += piece
  }
  return { text, spans }
}

/** Whether a text could be mistaken for marks of our own. */
export const hasMarks = (text: string): boolean => text.includes(BEGIN) || text.includes(END)

const badTemplate = (why: string, cause?: unknown): PeertuneError =>
  new PeertuneError('data/bad-chat-template', `the chat template cannot be read: ${why}`, { cause })
