import { setImmediate as nextTurn } from 'node:timers/promises'
import { PeertuneError } from '../../base/errors.js'
import { IGNORED_LABEL } from '../batches/batch.js'
import type { Example } from '../batches/collate.js'
import type { Examples } from '../batches/dataset.js'
import { orClosed } from '../formats/files.js'
import type { OpenOptions } from '../formats/progress.js'
import { type Row, textOf } from '../formats/row.js'
import { createSpool, type Spool } from '../formats/spool.js'
import { checkLength } from './text.js'
import type { Tokenizer } from './tokenizer.js'

/** Rows, and characters of them, tokenised between two turns of the event loop: some milliseconds. */
const ROWS_A_TURN = 64
const CHARACTERS_A_TURN = 2048
/** Bytes of one token id in the spool. */
const ID_BYTES = 4

interface Rows {
  readonly length: number
  at(index: number): Row
}

export interface PackRequest {
  readonly training: Rows
  readonly heldOut: Rows
  /** Where the text is. */
  readonly column: string
  readonly tokenizer: Tokenizer
  /** Tokens of one sequence. */
  readonly length: number
  readonly options: OpenOptions
  readonly close: () => void
}

/**
 * Rows as runs of tokens, an EOS after each where the tokenizer has one, cut into sequences of `length` tokens that begin
 * with a BOS where there is one; what does not fill a sequence is dropped. How many sequences there are is known only when
 * every row is tokenised, so that is done here and once; ids go to a spool, of which 32 MiB are in memory and the rest in
 * a file.
 */
export async function packRows(
  request: PackRequest
): Promise<{ training: Examples; heldOut: Examples; close: () => void }> {
  const spool = createSpool()
  return orClosed(spool, async () => {
    const heldOut = await pack(request.heldOut, request, spool)
    const training = await pack(request.training, request, spool)
    request.close()
    return { training, heldOut, close: spool.close }
  })
}

async function pack(rows: Rows, { column, tokenizer, length, options }: PackRequest, spool: Spool): Promise<Examples> {
  const { bos, eos } = tokenizer
  const stride = checkLength(length) - (bos === undefined ? 0 : 1)
  const begin = spool.size
  let characters = 0
  for (let i = 0; i < rows.length; i++) {
    const text = textOf(rows.at(i), column)
    characters += text.length
    spool.append(bytesOf(tokenizer.encode(text)))
    if (eos !== undefined) spool.append(bytesOf(Int32Array.of(eos)))
    if (i % ROWS_A_TURN < ROWS_A_TURN - 1 && characters < CHARACTERS_A_TURN) continue
    characters = 0
    options.signal?.throwIfAborted()
    options.onProgress?.({ file: 'tokens', bytes: i + 1, totalBytes: rows.length, rows: i + 1 })
    await nextTurn()
  }
  const count = Math.floor((spool.size - begin) / ID_BYTES / stride)
  return {
    length: count,
    at: (index) => sequenceOf(spool.read(begin + index * stride * ID_BYTES, stride * ID_BYTES), bos)
  }
}

const bytesOf = (ids: Int32Array): Uint8Array => new Uint8Array(ids.buffer, ids.byteOffset, ids.byteLength)

function sequenceOf(bytes: Uint8Array<ArrayBuffer>, bos: number | undefined): Example {
  const ids = new Int32Array(bytes.buffer)
  const values = bos === undefined ? ids : Int32Array.of(bos, ...ids)
  return { values, label: IGNORED_LABEL }
}

/** Throws `data/empty` where there is not one whole sequence to train on. */
export function checkSequences(
  { training, heldOut }: Readonly<Record<'training' | 'heldOut', Examples>>,
  file: string,
  length: number
): void {
  if (training.length > 0) return
  throw new PeertuneError('data/empty', `${file} holds no training sequence of ${length} tokens`, {
    facts: { file, sequenceLength: length, heldOut: heldOut.length },
    hint: 'give more text or shorter sequences'
  })
}
