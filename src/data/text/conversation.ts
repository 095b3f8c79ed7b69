import { PeertuneError } from '../../base/errors.js'
import { IGNORED_LABEL } from '../batches/batch.js'
import { type ChatTemplate, type Conversation, hasMarks, type Message } from './chat-template.js'
import type { Example } from '../batches/collate.js'
import { badRow, clip, type Row, textOf } from '../formats/row.js'
import type { ColumnNames } from '../spec.js'
import type { Tokenizer } from './tokenizer.js'

/** Turns of one conversation. */
const MAX_TURNS = 4096

/** Other names of the same roles, as in ShareGPT's format. */
const ROLES: Readonly<Record<string, string>> = { human: 'user', gpt: 'assistant' }

/** The conversation of a row: a list of turns, or a prompt and its completion. */
function messagesOf(row: Row, { messages = 'messages', prompt, completion }: ColumnNames): readonly Message[] {
  if (prompt !== undefined && completion !== undefined)
    return [
      { role: 'user', content: textOf(row, prompt) },
      { role: 'assistant', content: textOf(row, completion) }
    ]
  const turns = parsed(row.fields[messages])
  if (!Array.isArray(turns) || turns.length === 0 || turns.length > MAX_TURNS)
    throw badRow(row, `1 to ${MAX_TURNS} turns in column "${messages}"`, clip(JSON.stringify(turns) ?? 'nothing'), {
      column: messages
    })
  return turns.map((turn, i) => {
    const { from, value, ...rest } = (turn ?? {}) as Record<string, unknown>
    const { role = ROLES[String(from)] ?? from, content = value } = rest
    if (typeof role === 'string' && typeof content === 'string') return { ...rest, role, content }
    const got = `${clip(JSON.stringify(turn) ?? 'nothing')} as turn ${i + 1}`
    throw badRow(row, '{"role": text, "content": text}', got, { column: messages })
  })
}

/** A table of text holds a list as JSON. */
function parsed(value: unknown): unknown {
  if (typeof value !== 'string') return value
  try {
    return JSON.parse(value)
  } catch {
    return value
  }
}

/** Renders a row's conversation. Throws `data/bad-row` for what the template refuses, and where nothing is to be learned. */
export function conversationOf(row: Row, columns: ColumnNames, template: ChatTemplate): Conversation {
  const messages = messagesOf(row, columns)
  const { messages: column = 'messages' } = columns
  if (messages.some(({ content }) => hasMarks(content)))
    throw badRow(row, 'text', 'code points that are not for text (U+F0000, U+F0001)', { column })
  const conversation = rendered(row, column, () => template(messages))
  if (conversation.spans.length > 0) return conversation
  throw badRow(row, 'a turn of the assistant', `turns of ${messages.map(({ role }) => role).join(', ')}`, { column })
}

function rendered(row: Row, column: string, render: () => Conversation): Conversation {
  try {
    return render()
  } catch (cause) {
    if (cause instanceof PeertuneError) throw cause
    const why = cause instanceof Error ? cause.message : String(cause)
    throw badRow(row, 'turns that the chat template takes', why, { column, cause })
  }
}

/**
 * Tokens of a conversation, cut to `length`, and their labels: the token itself where the assistant says it, otherwise
 * IGNORED_LABEL. The whole text is tokenised at once, as it will be when the model is used; a token that reaches over the
 * border of a turn belongs to the later side.
 */
export function encodeConversation({ text, spans }: Conversation, tokenizer: Tokenizer, length: number): Example {
  const ids = tokenizer.encode(text)
  const place = (end: number): number =>
    sharedTokens(ids, end === text.length ? ids : tokenizer.encode(text.slice(0, end)))
  const labels = new Int32Array(ids.length).fill(IGNORED_LABEL)
  for (const [start, end] of spans) {
    const [from, to] = [place(start), place(end)]
    labels.set(ids.subarray(from, to), from)
  }
  return { values: ids.slice(0, length), labels: labels.slice(0, length), label: IGNORED_LABEL }
}

/** How many tokens two lists begin with alike. */
function sharedTokens(a: Int32Array, b: Int32Array): number {
  let shared = 0
  while (shared < a.length && shared < b.length && a[shared] === b[shared]) shared++
  return shared
}
