import { join } from 'node:path'
import { complaintsAbout, type Ended, lastJson, ROOT, runNode } from './child.js'
import type { Outcome, Step } from './step.js'

const PAIRS = { count: 3_000, from: 100_000 }
const BROADCASTS = { count: 1_000, from: 100_000 }
const FRAMES = 1_000_000
const PEERS = 10_000

type Facts = Readonly<Record<string, number>>

/** A bench as a step: its facts, and what its result must fulfil. */
function bench<T>(step: Pick<Step, 'name' | 'what'>, args: readonly string[], read: (result: T) => Outcome): Step {
  return {
    ...step,
    command: `npm run bench -- ${args.join(' ')}`,
    run: async () => outcomeOf(await runNode([join(ROOT, 'dist/bench/main.js'), ...args, '--json']), read)
  }
}

function outcomeOf<T>(ended: Ended, read: (result: T) => Outcome): Outcome {
  const result = lastJson<T>(ended)
  const failed = complaintsAbout(ended)
  if (result === undefined) return { facts: {}, complaints: [...failed, 'it printed no result'] }
  const { facts, complaints } = read(result)
  return { facts, complaints: [...complaints, ...failed] }
}

interface Failing {
  readonly violations: number
  readonly failing: readonly { readonly seed: string; readonly violations: readonly string[] }[]
}

const complaintsOf = ({ failing }: Failing): string[] =>
  failing.map(({ seed, violations }) => `seed ${seed}: ${violations.join('; ')}`)

const pick = (from: object, names: readonly string[]): Facts =>
  Object.fromEntries(names.map((name) => [name, Number((from as Record<string, unknown>)[name])]))

interface Fuzzed {
  readonly frames: number
  readonly failures: number
  readonly results: readonly {
    readonly target: string
    readonly accepted: number
    readonly failures: readonly { readonly index: number; readonly what: string }[]
  }[]
}

interface Crowd {
  readonly ratio: number
  readonly maxRatio: number
  readonly exchanges: number
  readonly maxResidentGb: number
  readonly violations: readonly { readonly code: string }[]
}

interface Mixed {
  readonly codecs: Readonly<Record<string, { readonly drift: { readonly exchanges: number; readonly ratio: number } }>>
}

/** What the weighted mean of all may move by, as a share of itself, in 10,000 exchanges of which a fifth is cut. */
const MAX_DRIFT = 1e-6

export const simulations: readonly Step[] = [
  bench<Crowd>(
    { name: 'load', what: `${PEERS} simulated peers agree in about as many exchanges each as 64 do` },
    ['simulate', '--peers', String(PEERS), '--seed', '2'],
    ({ ratio, maxRatio, exchanges, maxResidentGb, violations }) => ({
      facts: { peers: PEERS, exchanges, 'exchanges per peer, against 64 peers': ratio, 'resident GB': maxResidentGb },
      complaints: [
        ...violations.map(({ code }) => code),
        ...(ratio <= maxRatio ? [] : [`${ratio} times the exchanges of 64 peers, at most ${maxRatio}`])
      ]
    })
  ),
  bench<Failing & { count: number }>(
    {
      name: 'pairs',
      what: 'random simulated networks that mix in pairs, by seeds that no test has: crashes, loss, partitions, liars; no promise is broken'
    },
    ['scenarios', '--count', String(PAIRS.count), '--broadcast', '0', '--from', String(PAIRS.from)],
    (result) => ({
      facts: pick(result, [
        'count',
        'violations',
        'exchanges',
        'crashes',
        'inDoubt',
        'framesLost',
        'linksCut',
        'withLiars',
        'caughtUp',
        'worstDrift'
      ]),
      complaints: complaintsOf(result)
    })
  ),
  bench<{ broadcast: Failing }>(
    {
      name: 'broadcasts',
      what: 'the same for networks that broadcast: all honest replicas are equal to the last bit'
    },
    ['scenarios', '--count', '0', '--broadcast', String(BROADCASTS.count), '--from', String(BROADCASTS.from)],
    ({ broadcast }) => ({
      facts: pick(broadcast, ['count', 'violations', 'updates', 'crashes', 'duplicates', 'framesLost', 'linksCut']),
      complaints: complaintsOf(broadcast)
    })
  ),
  bench<Fuzzed>(
    {
      name: 'fuzz',
      what: 'mutated and random frames for every decoder that strangers reach: none throws or asks for more than its bound'
    },
    ['fuzz', '--frames', String(FRAMES)],
    ({ frames, failures, results }) => ({
      facts: {
        frames,
        failures,
        decoders: results.length,
        accepted: results.reduce((sum, { accepted }) => sum + accepted, 0)
      },
      complaints: results.flatMap(({ target, failures: all }) =>
        all.map(({ index, what }) => `${target} ${index}: ${what}`)
      )
    })
  ),
  bench<Mixed>(
    { name: 'drift', what: 'exchanges of which a fifth is cut leave the weighted mean of all peers where it was' },
    ['mixing'],
    ({ codecs }) => ({
      facts: Object.fromEntries(
        Object.entries(codecs).flatMap(([codec, { drift }]) => [
          [`${codec}, exchanges`, drift.exchanges],
          [`${codec}, mean moved by`, drift.ratio]
        ])
      ),
      complaints: Object.entries(codecs).flatMap(([codec, { drift }]) =>
        drift.ratio <= MAX_DRIFT ? [] : [`${codec}: the mean moved by ${drift.ratio}, at most ${MAX_DRIFT}`]
      )
    })
  )
]
