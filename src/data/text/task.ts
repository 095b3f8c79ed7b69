import type { TaskSpec } from '../../base/federation.js'
import { IGNORED_LABEL } from '../batches/batch.js'
import { type ChatTemplate, openChatTemplate } from './chat-template.js'
import { type Example, type LabelLayout, paddedCollator, type TokenInput } from '../batches/collate.js'
import { conversationOf, encodeConversation } from './conversation.js'
import type { DatasetParts } from '../batches/dataset.js'
import { labelIndex, labelOf, numberOf, type Row, tagsOf, textOf, wordsOf } from '../formats/row.js'
import type { ColumnNames, RowsSpec } from '../spec.js'
import type { Tokenizer } from './tokenizer.js'

/** How a task reads the rows of a table. */
export interface TextTask {
  /** Columns that a row must have. */
  readonly columns: readonly string[]
  /** Everything that can be wrong with a row, without tokenising it. Throws `data/bad-row`. */
  inspect(row: Row): Inspected
  /** Of a row that was inspected. */
  encode(row: Row): Example
  readonly layout: LabelLayout
}

export interface Inspected {
  /** What makes an example this one and no other. */
  readonly content: string
  /** Its class, where it has one. */
  readonly label?: number
}

interface TextContext {
  readonly columns: ColumnNames
  readonly tokenizer: Tokenizer
  readonly length: number
}

/** Tasks whose examples are rows; a causal language model packs them instead (packed.ts). */
export type RowTaskSpec = Exclude<TaskSpec, { kind: 'causal-lm' | 'image-classification' }>

export async function openTextTask(spec: RowsSpec, task: RowTaskSpec, tokenizer: Tokenizer): Promise<TextTask> {
  const { columns = {}, sequenceLength: length } = spec
  const context = { columns, tokenizer, length }
  switch (task.kind) {
    case 'sequence-classification':
      return classification(context, task.labels)
    case 'regression':
      return regression(context)
    case 'token-classification':
      return tagging(context, task.labels)
    case 'instruction-tuning':
      return chat(context, await openChatTemplate(spec.tokenizer, tokenizer, spec.chatTemplate))
  }
}

export const collatorOf = (
  task: TextTask,
  inputs: readonly TokenInput[],
  { pad }: Tokenizer,
  length: number
): DatasetParts['collate'] => paddedCollator(inputs, length, pad, task.layout)

function classification(context: TextContext, labels: readonly string[]): TextTask {
  const { label = 'label' } = context.columns
  const index = labelIndex(labels)
  const of = (row: Row) => labelOf(row, label, index, labels.length)
  const texts = textsOf(context)
  return {
    columns: [...texts.columns, label],
    layout: 'example',
    inspect: (row) => ({ content: texts.content(row), label: of(row) }),
    encode: (row) => ({ ...texts.encode(row), label: of(row) })
  }
}

function regression(context: TextContext): TextTask {
  const { label = 'label' } = context.columns
  const texts = textsOf(context)
  return {
    columns: [...texts.columns, label],
    layout: 'number',
    inspect: (row) => ({ content: `${texts.content(row)}\0${numberOf(row, label)}` }),
    encode: (row) => ({ ...texts.encode(row), label: numberOf(row, label) })
  }
}

/** One text of a row or two, tokenised with the special tokens of a classifier. */
function textsOf({ columns: { text = 'text', pair }, tokenizer, length }: TextContext) {
  if (pair === undefined)
    return {
      columns: [text],
      content: (row: Row) => textOf(row, text),
      encode: (row: Row) => ({ values: tokenizer.encodeWithSpecials(textOf(row, text), length) })
    }
  return {
    columns: [text, pair],
    content: (row: Row) => `${textOf(row, text)}\0${textOf(row, pair)}`,
    encode(row: Row) {
      const { ids, segments } = tokenizer.encodePair(textOf(row, text), textOf(row, pair), length)
      return { values: ids, segments }
    }
  }
}

/** The label of a word stands at its first token, the others are not learned: as in transformers' examples. */
function tagging({ columns, tokenizer, length }: TextContext, labels: readonly string[]): TextTask {
  const { words: wordColumn = 'tokens', tags: tagColumn = 'tags' } = columns
  const index = labelIndex(labels)
  const read = (row: Row) => {
    const words = wordsOf(row, wordColumn)
    return { words, tags: tagsOf(row, tagColumn, words.length, index) }
  }
  return {
    columns: [wordColumn, tagColumn],
    layout: 'token',
    inspect(row) {
      const { words, tags } = read(row)
      return { content: `${words.join('\0')}\0${tags.join(' ')}` }
    },
    encode(row) {
      const { words, tags } = read(row)
      return { ...alignTags(words, tags, tokenizer, length), label: IGNORED_LABEL }
    }
  }
}

/** Tokens of all words between the special ones, cut to `length`, with a label at the first token of each word. */
export function alignTags(words: readonly string[], tags: Int32Array, tokenizer: Tokenizer, length: number) {
  const { before, after } = tokenizer.frame
  const ids = [...before]
  const labels = ids.map(() => IGNORED_LABEL)
  const room = length - after.length
  for (const [word, text] of words.entries()) {
    if (ids.length >= room) break
    for (const [i, id] of tokenizer.encodeWord(text).entries()) {
      ids.push(id)
      labels.push(i === 0 ? tags[word]! : IGNORED_LABEL)
    }
  }
  const values = Int32Array.from([...ids.slice(0, room), ...after])
  return { values, labels: Int32Array.from(values, (_, i) => (i < room ? labels[i] : undefined) ?? IGNORED_LABEL) }
}

function chat({ columns, tokenizer, length }: TextContext, template: ChatTemplate): TextTask {
  const { messages = 'messages', prompt, completion } = columns
  return {
    columns: prompt !== undefined && completion !== undefined ? [prompt, completion] : [messages],
    layout: 'next',
    inspect: (row) => ({ content: conversationOf(row, columns, template).text }),
    encode: (row) => encodeConversation(conversationOf(row, columns, template), tokenizer, length)
  }
}
