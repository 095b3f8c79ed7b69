import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createWriteStream } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { seededRng } from '../../src/base/rng.js'
import { wholeFlag } from '../flags.js'

const MEGABYTE = 2 ** 20
const WORDS = ['the', 'cat', 'dog', 'house', 'river', 'green', 'slowly', 'walks', 'over', 'and', 'sleeps', 'Ünïcode']
export const LABELS = ['animals', 'places', 'colours', 'verbs']
/** Rows made once and written over and over, each time with another number. */
const PATTERNS = 4096

/** Rows of 100 to 700 bytes, the same for every run; the number in them makes each of them one of a kind. */
async function writeRows(path: string, bytes: number): Promise<number> {
  const rng = seededRng('jsonl-bench')
  const texts = Array.from({ length: PATTERNS }, () =>
    Array.from({ length: 10 + rng.integer(110) }, () => WORDS[rng.integer(WORDS.length)]).join(' ')
  )
  const file = createWriteStream(path)
  let written = 0
  let rows = 0
  while (written < bytes) {
    const piece = texts
      .map(
        (text) => `${JSON.stringify({ id: rows++, label: LABELS[rows % LABELS.length], text: `${rows} ${text}` })}\n`
      )
      .join('')
    written += Buffer.byteLength(piece)
    if (!file.write(piece)) await once(file, 'drain')
  }
  file.end()
  await once(file, 'close')
  return rows
}

/** A word-level tokenizer in the format of tokenizer.json. */
const TOKENIZER = {
  version: '1.0',
  added_tokens: [],
  normalizer: null,
  pre_tokenizer: { type: 'Whitespace' },
  post_processor: null,
  decoder: null,
  model: {
    type: 'WordPiece',
    unk_token: '[UNK]',
    continuing_subword_prefix: '##',
    max_input_chars_per_word: 100,
    vocab: Object.fromEntries(['[UNK]', ...WORDS].map((word, id) => [word, id]))
  }
}

/**
 * `npm run bench -- jsonl [--mb N] [--json]`: writes a JSONL file of N megabytes (1024) to the system's temporary folder,
 * opens it as a node does, in a process of its own, and takes batches from it.
 */
export async function run(args: readonly string[]): Promise<object> {
  const folder = await mkdtemp(join(tmpdir(), 'peertune-jsonl-bench-'))
  try {
    const path = join(folder, 'rows.jsonl')
    const written = await writeRows(path, wholeFlag(args, '--mb', 1024) * MEGABYTE)
    await writeFile(join(folder, 'tokenizer.json'), JSON.stringify(TOKENIZER))
    const result = await read(path, folder)
    if (result.rows !== written) throw new Error(`${written} rows were written, ${result.rows} were read`)
    console.log(
      `${(result.bytes / MEGABYTE).toFixed(0)} MB, ${result.rows} rows in ${result.seconds.toFixed(1)} s ` +
        `(${result.mbPerSecond.toFixed(0)} MB/s), ${result.peakMb.toFixed(0)} MB resident at the peak, ` +
        `${result.cpuSeconds.toFixed(1)} s of processor time, ${result.longestPauseMs.toFixed(0)} ms the longest pause of the event loop; ` +
        `${result.progressLines} lines of progress; then ${result.batchMs.toFixed(1)} ms a batch of 16 x 128`
    )
    return result
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

export interface JsonlResult {
  readonly bytes: number
  readonly rows: number
  readonly seconds: number
  readonly peakMb: number
  readonly mbPerSecond: number
  /** Of the reading, user and system: what the wall clock would show on an idle machine. */
  readonly cpuSeconds: number
  readonly longestPauseMs: number
  readonly progressLines: number
  readonly batchMs: number
}

/** The worker's last line of output is its result. */
async function read(path: string, tokenizer: string): Promise<JsonlResult> {
  const worker = fileURLToPath(new URL('jsonl-worker.js', import.meta.url))
  const child = spawn(process.execPath, [worker, path, tokenizer], { stdio: ['ignore', 'pipe', 'inherit'] })
  let output = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    output += text
  })
  const [code] = (await once(child, 'close')) as [number | null]
  if (code !== 0) throw new Error(`the reader ended with code ${code}`)
  return JSON.parse(output.trim().split('\n').at(-1) ?? '') as JsonlResult
}
