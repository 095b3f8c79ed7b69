import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { silentLogger } from '../../src/base/log.js'
import { seededRng } from '../../src/base/rng.js'
import { createFileExchangeLog } from '../../src/checkpoint/file-exchange-log.js'
import { createFileStore } from '../../src/checkpoint/file-store.js'
import { wholeFlag } from '../flags.js'

const IDENTITY = { federationHash: 'a'.repeat(64), schemaHash: 'b'.repeat(64) }

const median = (values: readonly number[]): number => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)]!

async function timed(times: number, action: (turn: number) => Promise<void>): Promise<number> {
  const all: number[] = []
  for (let turn = 0; turn < times; turn++) {
    const startMs = performance.now()
    await action(turn)
    all.push(performance.now() - startMs)
  }
  return median(all)
}

/** Milliseconds until an exchange is safe from a crash: by its log entry, and by a whole checkpoint instead. */
async function measure(size: number, times: number, directory: string) {
  const rng = seededRng('log', size)
  const increment = Float32Array.from({ length: size }, () => rng.uniform() - 0.5)
  const log = createFileExchangeLog({ directory, identity: { ...IDENTITY, size }, log: silentLogger })
  await log.load(0)
  const entryMs = await timed(times, async (turn) => {
    log.append({ kind: 'committed', exchangeId: `e${turn}`, peer: 'p', partnerPhase: 'training', increment })
    await log.synced()
  })
  const logged = log.sequence()
  await log.close()
  const again = createFileExchangeLog({ directory, identity: { ...IDENTITY, size }, log: silentLogger })
  const startMs = performance.now()
  await again.load(0)
  const replayMsPerEntry = (performance.now() - startMs) / logged
  await again.trim(logged)
  const store = createFileStore({ directory, log: silentLogger })
  const checkpointMs = await timed(Math.min(times, 10), (step) =>
    store.save({
      ...IDENTITY,
      step,
      exchanges: step,
      phase: 'training',
      parameters: increment,
      adam: { m: increment, v: increment, step },
      rng: {},
      cursor: { epoch: 0, position: 0 },
      journal: null,
      inDoubt: {},
      bytesSent: 0,
      bytesReceived: 0,
      savedAtMs: 0
    })
  )
  return { size, entryMs, entryBytes: 4 * size, replayMsPerEntry, checkpointMs }
}

/** `npm run bench -- exchange-log [--times N] [--json]`, in the system's temporary directory: set TMPDIR to a real disk. */
export async function run(args: readonly string[]): Promise<object> {
  const times = wholeFlag(args, '--times', 50)
  const results: object[] = []
  for (const size of [10_000, 300_000, 3_000_000]) {
    const directory = await mkdtemp(join(tmpdir(), 'peertune-log-bench-'))
    try {
      const one = await measure(size, times, directory)
      results.push(one)
      console.log(
        `${size} parameters: ${one.entryMs.toFixed(1)} ms an entry (${(one.entryBytes / 1e6).toFixed(2)} MB), ` +
          `${one.replayMsPerEntry.toFixed(1)} ms to read it back; a checkpoint takes ${one.checkpointMs.toFixed(1)} ms`
      )
    } finally {
      await rm(directory, { recursive: true, force: true })
    }
  }
  return { results }
}
