import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { PeertuneError } from '../../src/base/errors.js'
import { seededRng } from '../../src/base/rng.js'
import type { Decoded } from '../../src/base/verdict.js'
import { meterAllocations } from './allocation-meter.js'
import { fuzzedFrame } from './fuzz-frames.js'
import type { FuzzTarget } from './fuzz-target.js'
import { FUZZ_TARGETS } from './fuzz-targets.js'
import { wholeFlag } from '../flags.js'

/** Failures kept and printed for each target. */
const MAX_SHOWN = 10
/** Frames between two looks at the memory of the process, after a collection. */
const FRAMES_PER_LOOK = 20_000
/** Bytes the process may grow by while a target is at work: what is kept of a frame would show. */
export const MAX_GROWTH_BYTES = 32 * 2 ** 20

const CODE = /^(codec|hello|exchange|announcement|update)\/[a-z0-9-]+$/

export interface FuzzFailure {
  readonly target: string
  /** `--seed SEED --target TARGET --from INDEX --frames 1` plays it again. */
  readonly index: number
  readonly what: string
}

export interface FuzzResult {
  readonly target: string
  readonly frames: number
  readonly accepted: number
  /** By verdict code. */
  readonly refused: Readonly<Record<string, number>>
  readonly failures: readonly FuzzFailure[]
  /** Most bytes that one frame made the decoder ask for, and the bound. */
  readonly mostBytes: number
  readonly bound: number
  readonly growthBytes: number
}

export interface FuzzOptions {
  readonly seed: string
  readonly from: number
  readonly frames: number
  /** Bytes of the process that are in use; absent: not looked at. */
  readonly memory?: () => number
}

/** What is wrong with what a decoder made of a frame, if anything. */
function flawOf(target: FuzzTarget, result: Decoded<unknown>): string | undefined {
  if (result.ok) return target.flaw?.(result.value)
  if (result.verdict.verdict === 'accept') return 'refused with the verdict accept'
  return CODE.test(result.verdict.code) ? undefined : `refused with the unknown code ${result.verdict.code}`
}

/** Frames `from` to `from + frames` of a target; the same for the same seed, whatever came before. */
export async function fuzz(target: FuzzTarget, { seed, from, frames, memory }: FuzzOptions): Promise<FuzzResult> {
  const refused: Record<string, number> = {}
  const failures: FuzzFailure[] = []
  const tally = { accepted: 0, mostBytes: 0, growthBytes: 0 }
  const fail = (index: number, what: string) => failures.push({ target: target.name, index, what })
  // Tables that are made once and kept are no frame's doing.
  for (const frame of target.seeds) await target.decode(frame)
  const before = memory?.() ?? 0
  const meter = meterAllocations()
  try {
    for (let index = from; index < from + frames; index++) {
      const frame = fuzzedFrame(target.seeds, seededRng('fuzz', seed, target.name, index))
      meter.take()
      try {
        const result = await target.decode(frame)
        const bytes = meter.take()
        tally.mostBytes = Math.max(tally.mostBytes, bytes)
        if (bytes > target.mostBytes) fail(index, `asked for ${bytes} bytes, at most ${target.mostBytes}`)
        if (result.ok) tally.accepted++
        else if ('code' in result.verdict) refused[result.verdict.code] = (refused[result.verdict.code] ?? 0) + 1
        const flaw = flawOf(target, result)
        if (flaw !== undefined) fail(index, flaw)
      } catch (error) {
        fail(index, `threw ${error instanceof Error ? error.stack : String(error)}`)
      }
      if (memory !== undefined && (index - from) % FRAMES_PER_LOOK === 0)
        tally.growthBytes = Math.max(tally.growthBytes, memory() - before)
    }
  } finally {
    meter.remove()
  }
  if (tally.growthBytes > MAX_GROWTH_BYTES) fail(from, `the process grew by ${tally.growthBytes} bytes`)
  return { target: target.name, frames, refused, failures, bound: target.mostBytes, ...tally }
}

/** Bytes in use after a garbage collection, array buffers included. */
function memoryInUse(): () => number {
  setFlagsFromString('--expose-gc')
  const collect = runInNewContext('gc') as () => void
  return () => {
    collect()
    const { heapUsed, external } = process.memoryUsage()
    return heapUsed + external
  }
}

function textFlag(args: readonly string[], flag: string): string | undefined {
  const at = args.indexOf(flag)
  return at < 0 ? undefined : args[at + 1]
}

/**
 * `npm run bench -- fuzz [--frames N] [--seed TEXT] [--target NAME] [--from INDEX] [--json]`: N frames, random or
 * well-formed ones with bits flipped, runs cut, doubled and spliced, lengths and varints made absurd, dealt out to every
 * decoder that strangers reach. None may throw, keep memory or ask for more than its bound, and every refusal has a code.
 */
export async function run(args: readonly string[]): Promise<object> {
  const name = textFlag(args, '--target')
  const targets = FUZZ_TARGETS.filter((target) => name === undefined || target.name === name)
  if (targets.length === 0)
    throw new PeertuneError(
      'config/bad-flag',
      `--target needs one of ${FUZZ_TARGETS.map((one) => one.name).join(', ')}`
    )
  const all = wholeFlag(args, '--frames', 1_000_000)
  const from = wholeFlag(args, '--from', 0)
  const seed = textFlag(args, '--seed') ?? '1'
  const memory = memoryInUse()
  const startedMs = performance.now()
  const results: FuzzResult[] = []
  for (const target of targets) {
    const result = await fuzz(target, { seed, from, frames: Math.ceil(all / targets.length), memory })
    results.push(result)
    const codes = Object.entries(result.refused).map(([code, count]) => `${code} ${count}`)
    console.log(
      `${target.name.padEnd(24)} ${result.frames} frames, ${result.accepted} accepted, ${result.failures.length} failures; ` +
        `at most ${result.mostBytes} of ${result.bound} bytes a frame, grew by ${(result.growthBytes / 2 ** 20).toFixed(1)} MiB; ` +
        codes.join(', ')
    )
    for (const { index, what } of result.failures.slice(0, MAX_SHOWN)) console.log(`  frame ${index}: ${what}`)
  }
  const failures = results.reduce((sum, result) => sum + result.failures.length, 0)
  const frames = results.reduce((sum, result) => sum + result.frames, 0)
  if (failures > 0) process.exitCode = 1
  return { seed, frames, failures, seconds: (performance.now() - startedMs) / 1000, results }
}
