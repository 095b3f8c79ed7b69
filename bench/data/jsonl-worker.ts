import '../../src/base/polyfill.js'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { inTenths } from '../../src/data/formats/progress.js'
import { openDataset } from '../../src/data/source.js'
import { type JsonlResult, LABELS } from './jsonl.js'

/** Opens one JSONL file as a node does and prints what it took as one line of JSON; progress goes to stderr. */
const [path = '', tokenizer = ''] = process.argv.slice(2)
const BATCHES = 50
const NANOSECONDS_PER_MS = 1e6

let bytes = 0
let rows = 0
let progressLines = 0
const tell = inTenths((progress) => {
  progressLines += 1
  console.error(`${progress.bytes} of ${progress.totalBytes} bytes, ${progress.rows} rows`)
})
const pauses = monitorEventLoopDelay({ resolution: 5 })
pauses.enable()
const startMs = performance.now()
const startCpu = process.cpuUsage()
const data = await openDataset(
  { kind: 'jsonl', path, tokenizer, sequenceLength: 128, seed: 'bench' },
  { kind: 'sequence-classification', labels: LABELS },
  { inputs: ['input_ids', 'attention_mask'].map((name) => ({ name, shape: ['batch', 'seq'] })) },
  {
    onProgress(progress) {
      ;({ bytes, rows } = progress)
      tell(progress)
    }
  }
)
const { user, system } = process.cpuUsage(startCpu)
const seconds = (performance.now() - startMs) / 1000
const longestPauseMs = pauses.max / NANOSECONDS_PER_MS
const stream = data.batches(16)
stream.next()
const batchesMs = performance.now()
for (let i = 0; i < BATCHES; i++) stream.next()
const result: JsonlResult = {
  bytes,
  rows,
  seconds,
  peakMb: process.resourceUsage().maxRSS / 1024,
  cpuSeconds: (user + system) / 1e6,
  mbPerSecond: bytes / 2 ** 20 / seconds,
  longestPauseMs,
  progressLines,
  batchMs: (performance.now() - batchesMs) / BATCHES
}
data.close?.()
console.log(JSON.stringify(result))
