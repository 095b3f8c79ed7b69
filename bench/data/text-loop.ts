import { readFile } from 'node:fs/promises'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { parseArgs } from 'node:util'
import { openDataset } from '../../src/data/source.js'
import { openTokenizer } from '../../src/data/text/tokenizer.js'

const NANOSECONDS = 1e6
/** What a causal language model asks for. */
const INPUTS = ['input_ids', 'attention_mask'].map((name) => ({ name, shape: ['batch', 'seq'] }))

/**
 * `npm run bench -- text-loop [--text FILE] [--tokenizer FILE] [--json]`: how long the event loop is held up while a node reads
 * a text, and how long the tokenizer alone takes, in one go.
 */
export async function run(args: readonly string[]): Promise<object> {
  const options = {
    text: { type: 'string', default: '../shared/data/tinyshakespeare/input.txt' },
    tokenizer: { type: 'string', default: '../shared/models/stories260k/tokenizer.json' }
  } as const
  const { text: path, tokenizer } = parseArgs({ args: [...args], options }).values
  const delay = monitorEventLoopDelay({ resolution: 1 })
  delay.enable()
  const startMs = performance.now()
  const spec = { kind: 'text', path, tokenizer, sequenceLength: 128, seed: 'bench' } as const
  const { size } = await openDataset(spec, { kind: 'causal-lm' }, { inputs: INPUTS })
  const openMs = performance.now() - startMs
  delay.disable()
  const text = await readFile(path, 'utf8')
  const { encode } = await openTokenizer(tokenizer)
  const encodeStartMs = performance.now()
  const tokens = encode(text).length
  const encodeMs = performance.now() - encodeStartMs
  const maxHoldMs = delay.max / NANOSECONDS
  console.log(
    `${text.length} characters, ${tokens} tokens: read in ${openMs.toFixed(0)} ms, the loop away for ${maxHoldMs.toFixed(1)} ms at ` +
      `the most; tokenised in one go ${encodeMs.toFixed(0)} ms`
  )
  return { characters: text.length, tokens, sequences: size, openMs, maxHoldMs, encodeMs }
}
