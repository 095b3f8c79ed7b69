import { readFile, stat } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { Tokenizer as HuggingFaceTokenizer } from '@huggingface/tokenizers'
import { isPeertuneError, PeertuneError } from '../../base/errors.js'
import { reasonOf } from '../../base/system-error.js'

/** Bytes of a tokenizer.json; the largest in use (262k tokens) have about 35 MB. */
const MAX_TOKENIZER_BYTES = 128 * 1024 * 1024

export interface Tokenizer {
  /** Without special tokens. */
  encode(text: string): Int32Array
  /**
   * With the special tokens of the tokenizer's post-processor, as a classifier reads it, cut to `length` tokens; a
   * closing special token ([SEP]) survives the cut.
   */
  encodeWithSpecials(text: string, length: number): Int32Array
  /** Text without special tokens. */
  decode(ids: Int32Array): string
  /**
   * Two texts with the special tokens between and around them, cut to `length` tokens where they are longest, and which
   * text each token belongs to. Both as transformers does with `truncation='longest_first'`.
   */
  encodePair(text: string, pair: string, length: number): { readonly ids: Int32Array; readonly segments: Int32Array }
  /** One word of a sentence that was split into words, as transformers does with `is_split_into_words`. */
  encodeWord(word: string): Int32Array
  /** Special tokens before and after one text. */
  readonly frame: { readonly before: Int32Array; readonly after: Int32Array }
  /** tokenizer_config.json; empty where there is none. */
  readonly config: Readonly<Record<string, unknown>>
  /** What a packed sequence begins with; absent where the tokenizer knows none. */
  readonly bos: number | undefined
  /** What stands between two texts packed into one run; absent where the tokenizer knows none. */
  readonly eos: number | undefined
  /** Fills the end of short rows; masked, so any token does. */
  readonly pad: number
}

/**
 * Reads a Hugging Face tokenizer.json (a file, or a folder with one), and tokenizer_config.json beside it where there
 * is one. Throws `data/no-tokenizer`, `data/bad-tokenizer`.
 */
export async function openTokenizer(path: string): Promise<Tokenizer> {
  const file = path.endsWith('.json') ? path : join(path, 'tokenizer.json')
  const definition = await readObject(file)
  const config = await readObject(join(dirname(file), 'tokenizer_config.json')).catch(ignoreAbsent)
  const inner = construct(file, definition, config)
  return wrap(inner, config, needsSpace(definition))
}

/**
 * A byte-level vocabulary writes words of the middle of a sentence with their space, and those of tokenizers that do not
 * add it by themselves would otherwise be words no text begins with.
 */
function needsSpace({ pre_tokenizer: outer }: Readonly<Record<string, unknown>>): boolean {
  const steps = [outer, ...((outer as { pretokenizers?: unknown[] } | null)?.pretokenizers ?? [])]
  return steps.some((step) => {
    const { type, add_prefix_space: added } = (step ?? {}) as Record<string, unknown>
    return type === 'ByteLevel' && added === false
  })
}

function wrap(inner: HuggingFaceTokenizer, config: Readonly<Record<string, unknown>>, spaced: boolean): Tokenizer {
  const encode = (text: string) => Int32Array.from(inner.encode(text, { add_special_tokens: false }).ids)
  const encodeSpecial = (text: string) => Int32Array.from(inner.encode(text).ids)
  const [plain, special] = [encode('a'), encodeSpecial('a')]
  const closes = special.length > plain.length && special.at(-1) !== plain.at(-1)
  const named = (key: string) => {
    const token = contentOf(config[key])
    return token === undefined ? undefined : inner.token_to_id(token)
  }
  return {
    encode,
    encodeWithSpecials: (text, length) => cut(encodeSpecial(text), length, closes),
    decode: (ids) => inner.decode([...ids], { skip_special_tokens: true }),
    encodePair: pairEncoder(inner, encode),
    encodeWord: (word) => encode(spaced ? ` ${word}` : word),
    frame: around(special, plain),
    config,
    bos: named('bos_token') ?? (special.length > plain.length && special[0] !== plain[0] ? special[0] : undefined),
    eos: named('eos_token'),
    pad: named('pad_token') ?? inner.token_to_id('[PAD]') ?? inner.token_to_id('<pad>') ?? 0
  }
}

/** What stands before and after `inside` in `whole`; nothing where it is not in there. */
function around(whole: Int32Array, inside: Int32Array) {
  for (let start = 0; start + inside.length <= whole.length; start++)
    if (inside.every((id, i) => whole[start + i] === id))
      return { before: whole.slice(0, start), after: whole.slice(start + inside.length) }
  return { before: new Int32Array(0), after: new Int32Array(0) }
}

/** Learns the special tokens of a pair from one of two words, and puts them around any other. */
function pairEncoder(inner: HuggingFaceTokenizer, encode: (text: string) => Int32Array): Tokenizer['encodePair'] {
  const probe: { readonly ids: number[]; readonly token_type_ids?: number[] } = inner.encode('a', {
    text_pair: 'b',
    return_token_type_ids: true
  })
  const ids = Int32Array.from(probe.ids)
  // Without a post-processor there is nothing between two texts, and the second is the second.
  const types = probe.token_type_ids ?? Array.from(ids, (_, place) => (place < encode('a').length ? 0 : 1))
  const first = around(ids, encode('a'))
  const second = around(first.after, encode('b'))
  const [before, between, after] = [first.before, second.before, second.after]
  const typeAt = (place: number) => types[place] ?? 0
  const specials = before.length + between.length + after.length
  return (text, pair, length) => {
    const [a, b] = cutLongest(encode(text), encode(pair), Math.max(0, length - specials))
    const parts = [before, a, between, b, after]
    const whole = Int32Array.from(parts.flatMap((part) => [...part])).slice(0, length)
    const segmentOf = [typeAt(0), typeAt(before.length), typeAt(before.length + encode('a').length)]
    const segments = parts.flatMap((part, i) =>
      Array<number>(part.length).fill(segmentOf[i] ?? typeAt(types.length - 1))
    )
    return { ids: whole, segments: Int32Array.from(segments).slice(0, length) }
  }
}

/** The truncation `longest_first` of Hugging Face's tokenizers: the longer gives first, then both alike. */
function cutLongest(a: Int32Array, b: Int32Array, room: number): readonly [Int32Array, Int32Array] {
  if (a.length > b.length) {
    const [shorter, longer] = cutLongest(b, a, room)
    return [longer, shorter]
  }
  const longer = Math.max(a.length, room - a.length)
  if (a.length + longer <= room) return [a, b.subarray(0, longer)]
  const half = Math.floor(room / 2)
  return [a.subarray(0, half), b.subarray(0, half + (room % 2))]
}

/** tokenizer_config.json names a token as text or as {"content": text}. */
export function contentOf(token: unknown): string | undefined {
  if (typeof token === 'string') return token
  const content = token !== null && typeof token === 'object' && 'content' in token ? token.content : undefined
  return typeof content === 'string' ? content : undefined
}

function cut(ids: Int32Array, length: number, keepLast: boolean): Int32Array {
  if (ids.length <= length) return ids
  const kept = ids.slice(0, length)
  if (keepLast) kept[length - 1] = ids[ids.length - 1]!
  return kept
}

function ignoreAbsent(error: unknown): Record<string, unknown> {
  if (isPeertuneError(error) && error.code === 'data/no-tokenizer') return {}
  throw error
}

async function readObject(file: string): Promise<Record<string, unknown>> {
  const { size } = await stat(file).catch((cause: unknown) => {
    throw noTokenizer(file, cause)
  })
  if (size > MAX_TOKENIZER_BYTES) throw badTokenizer(file, `it has ${size} bytes, more than ${MAX_TOKENIZER_BYTES}`)
  const text = await readFile(file, 'utf8').catch((cause: unknown) => {
    throw noTokenizer(file, cause)
  })
  try {
    return JSON.parse(text) as Record<string, unknown>
  } catch (cause) {
    throw badTokenizer(file, 'it is not JSON', cause)
  }
}

const noTokenizer = (file: string, cause: unknown): PeertuneError =>
  new PeertuneError('data/no-tokenizer', `cannot read the tokenizer ${file} (${reasonOf(cause)})`, {
    facts: { file },
    hint: 'give a Hugging Face tokenizer.json, or a folder that holds one',
    cause
  })

function construct(file: string, definition: object, config: object): HuggingFaceTokenizer {
  try {
    return new HuggingFaceTokenizer(definition, config)
  } catch (cause) {
    throw badTokenizer(file, 'it does not describe a tokenizer this version knows', cause)
  }
}

const badTokenizer = (file: string, why: string, cause?: unknown): PeertuneError =>
  new PeertuneError('data/bad-tokenizer', `${file} is no tokenizer.json: ${why}`, { facts: { file }, cause })
