import { readFile, stat } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { Tokenizer as HuggingFaceTokenizer } from '@huggingface/tokenizers'
import { isPeertuneError, PeertuneError } from '../base/errors.js'

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
  return wrap(inner, config)
}

function wrap(inner: HuggingFaceTokenizer, config: Readonly<Record<string, unknown>>): Tokenizer {
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
    bos: named('bos_token') ?? (special.length > plain.length && special[0] !== plain[0] ? special[0] : undefined),
    eos: named('eos_token'),
    pad: named('pad_token') ?? inner.token_to_id('[PAD]') ?? inner.token_to_id('<pad>') ?? 0
  }
}

/** tokenizer_config.json names a token as text or as {"content": text}. */
function contentOf(token: unknown): string | undefined {
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
  const bytes = await stat(file).then(
    (found) => found.size,
    (cause: unknown) => {
      throw new PeertuneError('data/no-tokenizer', `cannot read the tokenizer ${file}`, {
        facts: { file },
        hint: 'give a Hugging Face tokenizer.json, or a folder that holds one',
        cause
      })
    }
  )
  if (bytes > MAX_TOKENIZER_BYTES) throw badTokenizer(file, `it has ${bytes} bytes, more than ${MAX_TOKENIZER_BYTES}`)
  try {
    return JSON.parse(await readFile(file, 'utf8')) as Record<string, unknown>
  } catch (cause) {
    throw badTokenizer(file, 'it is not JSON', cause)
  }
}

function construct(file: string, definition: object, config: object): HuggingFaceTokenizer {
  try {
    return new HuggingFaceTokenizer(definition, config)
  } catch (cause) {
    throw badTokenizer(file, 'it does not describe a tokenizer this version knows', cause)
  }
}

const badTokenizer = (file: string, why: string, cause?: unknown): PeertuneError =>
  new PeertuneError('data/bad-tokenizer', `${file} is no tokenizer.json: ${why}`, { facts: { file }, cause })
