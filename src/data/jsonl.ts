import { createReadStream } from 'node:fs'
import { PeertuneError } from '../base/errors.js'
import type { TaskSpec } from '../base/federation.js'
import { seededRng } from '../base/rng.js'
import { causalCollator, classificationCollator, type Example, type ModelInputs, tokenInputsOf } from './collate.js'
import type { DatasetParts } from './dataset.js'
import { emptyFile, statFile } from './files.js'
import type { JsonlSpec } from './spec.js'
import { packTokens } from './text.js'
import { openTokenizer, type Tokenizer } from './tokenizer.js'

/** Characters of one line, so that a file without line ends cannot fill the memory. */
const MAX_LINE_CHARACTERS = 4 * 1024 * 1024
/** Tokens kept of one file (4 bytes each): the rows themselves are never held. */
const MAX_TOKENS = 256 * 1024 * 1024

export interface JsonlRow {
  /** From 1. */
  readonly line: number
  readonly text: string
  readonly label: string | undefined
}

/**
 * The rows of a JSONL file one by one, holding one chunk and one line at a time. Blank lines are skipped; `label` may
 * be text or a whole number. Throws `data/bad-row` with file, line and what was expected, `data/empty`, `data/no-file`.
 */
export async function* readRows(path: string, wantsLabel: boolean): AsyncGenerator<JsonlRow> {
  await statFile(path)
  let rows = 0
  for await (const { line, content } of readLines(path)) {
    if (content.trim() === '') continue
    rows += 1
    yield parseRow(path, line, content, wantsLabel)
  }
  if (rows === 0) throw emptyFile(path)
}

async function* readLines(path: string): AsyncGenerator<{ line: number; content: string }> {
  let line = 1
  let rest = ''
  for await (const chunk of createReadStream(path, { encoding: 'utf8' })) {
    const parts = (rest + String(chunk)).split('\n')
    rest = parts.pop() ?? ''
    for (const content of parts) yield { line: line++, content }
    if (rest.length > MAX_LINE_CHARACTERS)
      throw badRow(path, line, `a line of at most ${MAX_LINE_CHARACTERS} characters`, `${rest.length} and no end`)
  }
  if (rest !== '') yield { line, content: rest }
}

function parseRow(path: string, line: number, content: string, wantsLabel: boolean): JsonlRow {
  const expected = wantsLabel ? '{"text": string, "label": string or whole number}' : '{"text": string}'
  let row: unknown
  try {
    row = JSON.parse(content)
  } catch (cause) {
    throw badRow(path, line, expected, `no JSON: ${clip(content)}`, cause)
  }
  if (row === null || typeof row !== 'object' || Array.isArray(row)) throw badRow(path, line, expected, clip(content))
  const { text, label } = row as { readonly text?: unknown; readonly label?: unknown }
  if (typeof text !== 'string') throw badRow(path, line, expected, fieldOf('text', text))
  if (!wantsLabel) return { line, text, label: undefined }
  if (typeof label !== 'string' && !Number.isInteger(label)) throw badRow(path, line, expected, fieldOf('label', label))
  return { line, text, label: String(label) }
}

/** The examples of a JSONL file for `task`, of text or of text and label. */
export async function readJsonl(spec: JsonlSpec, task: TaskSpec, model: ModelInputs): Promise<DatasetParts> {
  const inputs = tokenInputsOf(model)
  const tokenizer = await openTokenizer(spec.tokenizer)
  const length = spec.sequenceLength
  if (task.kind === 'causal-lm') {
    const parts = await holdOut(spec, (path) => readSequences(path, tokenizer, length))
    return { ...parts, seed: spec.seed, collate: causalCollator(inputs, length) }
  }
  const parts = await holdOut(spec, (path) => readExamples(path, task.labels, tokenizer, length))
  return { ...parts, seed: spec.seed, collate: classificationCollator(inputs, length, tokenizer.pad) }
}

/** Examples of a file of their own are held out, or else a seeded tenth of all. */
async function holdOut(spec: JsonlSpec, read: (path: string) => Promise<Example[]>) {
  const all = await read(spec.path)
  if (spec.testPath !== undefined) return { training: all, heldOut: await read(spec.testPath) }
  const shuffled = seededRng('hold-out', spec.seed).shuffle(all)
  const held = Math.floor(all.length / 10)
  return { training: shuffled.slice(held), heldOut: shuffled.slice(0, held) }
}

/** Token ids of every row, cut to `length`, and the index of its label among `labels`. */
async function readExamples(path: string, labels: readonly string[], tokenizer: Tokenizer, length: number) {
  const indexOf = new Map(labels.map((label, index) => [label, index]))
  const examples: Example[] = []
  const count = tokenBudget(path)
  for await (const { line, text, label } of readRows(path, true)) {
    const index = indexOf.get(label ?? '') ?? (Number.isInteger(Number(label)) ? Number(label) : -1)
    if (index < 0 || index >= labels.length)
      throw badRow(path, line, `a label among the ${labels.length} of the task`, fieldOf('label', label))
    const values = tokenizer.encodeWithSpecials(text, length)
    count(values.length)
    examples.push({ values, label: index })
  }
  return examples
}

/** All rows as one run of tokens, an EOS after each where the tokenizer has one, packed as a text file is. */
async function readSequences(path: string, tokenizer: Tokenizer, length: number): Promise<Example[]> {
  const sequences: Example[] = []
  const count = tokenBudget(path)
  const closing = Int32Array.from(tokenizer.eos === undefined ? [] : [tokenizer.eos])
  const stride = length - (tokenizer.bos === undefined ? 0 : 1)
  let rest = new Int32Array(0)
  for await (const { text } of readRows(path, false)) {
    const run = joined([rest, tokenizer.encode(text), closing])
    const packed = packTokens(run, tokenizer.bos, length)
    count(packed.length * length)
    for (const sequence of packed) sequences.push(sequence)
    rest = run.slice(packed.length * stride)
  }
  return sequences
}

function joined(parts: readonly Int32Array[]): Int32Array<ArrayBuffer> {
  const all = new Int32Array(parts.reduce((total, part) => total + part.length, 0))
  let at = 0
  for (const part of parts) {
    all.set(part, at)
    at += part.length
  }
  return all
}

function tokenBudget(path: string): (tokens: number) => void {
  let total = 0
  return (tokens) => {
    total += tokens
    if (total > MAX_TOKENS)
      throw new PeertuneError('data/file-too-large', `${path} has more than ${MAX_TOKENS} tokens`, {
        facts: { file: path, expected: MAX_TOKENS }
      })
  }
}

const fieldOf = (name: string, value: unknown): string =>
  value === undefined ? `no "${name}"` : `"${name}": ${clip(JSON.stringify(value))}`

const clip = (text: string): string => (text.length > 60 ? `${text.slice(0, 60)}...` : text)

const badRow = (file: string, line: number, expected: string, got: string, cause?: unknown): PeertuneError =>
  new PeertuneError('data/bad-row', `${file}, line ${line}: expected ${expected}, got ${got}`, {
    facts: { file, line, expected, got },
    cause
  })
