import { existsSync } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { onTestFinished } from 'vitest'

/** Really trained models and real texts, beside the project on some machines. */
export const SHARED = resolve(import.meta.dirname, '../../../shared')
export const hasShared = (path: string): boolean => existsSync(join(SHARED, path))

/** A folder that goes away with the test. */
export async function temporaryFolder(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'peertune-data-'))
  onTestFinished(() => rm(folder, { recursive: true, force: true }))
  return folder
}

export async function temporaryFile(content: string | Uint8Array, name = 'data.jsonl'): Promise<string> {
  const path = join(await temporaryFolder(), name)
  await writeFile(path, content)
  return path
}

const VOCABULARY = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', 'the', 'cat', 'dog', 'sat', 'ran', '##s', '.', 'a']

/** Ids of the words above under the tokenizer below. */
export const idsOf = (...tokens: readonly string[]): number[] => tokens.map((token) => VOCABULARY.indexOf(token))

/** A BERT-like WordPiece tokenizer of twelve words, in the format of tokenizer.json. */
export const WORDPIECE = {
  version: '1.0',
  truncation: null,
  padding: null,
  added_tokens: VOCABULARY.slice(0, 4).map((content, id) => ({
    id,
    content,
    single_word: false,
    lstrip: false,
    rstrip: false,
    normalized: false,
    special: true
  })),
  normalizer: {
    type: 'BertNormalizer',
    clean_text: true,
    handle_chinese_chars: true,
    strip_accents: null,
    lowercase: true
  },
  pre_tokenizer: { type: 'BertPreTokenizer' },
  post_processor: {
    type: 'TemplateProcessing',
    single: [
      { SpecialToken: { id: '[CLS]', type_id: 0 } },
      { Sequence: { id: 'A', type_id: 0 } },
      { SpecialToken: { id: '[SEP]', type_id: 0 } }
    ],
    pair: [],
    special_tokens: {
      '[CLS]': { id: '[CLS]', ids: [2], tokens: ['[CLS]'] },
      '[SEP]': { id: '[SEP]', ids: [3], tokens: ['[SEP]'] }
    }
  },
  decoder: { type: 'WordPiece', prefix: '##', cleanup: true },
  model: {
    type: 'WordPiece',
    unk_token: '[UNK]',
    continuing_subword_prefix: '##',
    max_input_chars_per_word: 100,
    vocab: Object.fromEntries(VOCABULARY.map((word, id) => [word, id]))
  }
}

/** The folder of a tokenizer, with a tokenizer_config.json where one is given. */
export async function temporaryTokenizer(config?: object): Promise<string> {
  const folder = await temporaryFolder()
  await writeFile(join(folder, 'tokenizer.json'), JSON.stringify(WORDPIECE))
  if (config !== undefined) await writeFile(join(folder, 'tokenizer_config.json'), JSON.stringify(config))
  return folder
}

/** A .npy file of version 1 as numpy's documentation describes it. */
export function npy(descr: string, shape: readonly number[], data: ArrayBufferView, fortran = false): Buffer {
  const order = fortran ? 'True' : 'False'
  const dims = shape.map((dim) => `${dim},`).join(' ')
  const text = `{'descr': '${descr}', 'fortran_order': ${order}, 'shape': (${dims}), }`
  const header = `${text.padEnd(Math.ceil((text.length + 11) / 64) * 64 - 11)}\n`
  const head = Buffer.from([0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59, 1, 0, header.length & 255, header.length >> 8])
  return Buffer.concat([head, Buffer.from(header), Buffer.from(data.buffer, data.byteOffset, data.byteLength)])
}

/** An IDX file of unsigned bytes, as MNIST's page describes it. */
export function idx(shape: readonly number[], data: Uint8Array | readonly number[]): Buffer {
  const header = Buffer.alloc(4 + 4 * shape.length)
  header.writeUInt32BE(0x0800 | shape.length, 0)
  shape.forEach((dim, i) => {
    header.writeUInt32BE(dim, 4 + 4 * i)
  })
  return Buffer.concat([header, Buffer.from(data)])
}
