import { parseArgs } from 'node:util'
import type { CodecName } from '../../src/codec/codec.js'
import type { Measurement } from '../../src/sim/verdict/measure.js'
import { gossip } from './federation.js'
import { rowsOf } from '../flags.js'
import { openLoraPlay, PLAY_FLAGS } from './shakespeare.js'

const SEED = 'bytes'

/** Ways to send, the plainest first: everything is measured against it. */
interface Way {
  readonly codec: CodecName
  readonly fraction?: number
}

const WAYS: Readonly<Record<string, Way>> = {
  float32: { codec: 'float32' },
  int8: { codec: 'int8' },
  'int4-edge': { codec: 'int4-edge' },
  'topk-int4-edge-25': { codec: 'topk-int4-edge', fraction: 0.25 },
  'topk-int4-edge-10': { codec: 'topk-int4-edge', fraction: 0.1 },
  'topk-edge-10': { codec: 'topk-edge', fraction: 0.1 },
  'rank-slots-edge-25': { codec: 'rank-slots-edge', fraction: 0.25 },
  powergossip: { codec: 'powergossip' }
}

const OPTIONS = {
  ...PLAY_FLAGS,
  /** Loss in nats per token that is to be reached. */
  target: { type: 'string', default: '2.9' },
  /** Local steps of the schedule, most of which are not needed to get there. */
  steps: { type: 'string', default: '400' },
  peers: { type: 'string', default: '8' },
  batch: { type: 'string', default: '16' },
  only: { type: 'string' }
} as const

/** Local steps between two looks at the loss. */
const LOOK_EVERY = 10

/**
 * `npm run bench -- bytes [--only int8,int4-edge] [--target 2.9] [--steps N] [--batch N] [--json]`: bytes that peers send
 * until their merged model has a held-out loss, LoRA of rank 8, one schedule for all codecs.
 */
export async function run(args: readonly string[]): Promise<object> {
  const { values } = parseArgs({ args: [...args], options: OPTIONS })
  const ways = rowsOf(WAYS, values.only)
  const [target, steps, peers, batchSize] = [values.target, values.steps, values.peers, values.batch].map(Number) as [
    number,
    number,
    number,
    number
  ]
  const play = await openLoraPlay({ ...values, peers, batchSize, seed: SEED })
  try {
    const rows: object[] = []
    for (const [name, way] of ways) {
      const seen: Measurement[] = []
      await gossip(play, {
        seed: SEED,
        steps,
        ...way,
        measurements: steps / LOOK_EVERY,
        onMeasurement: (one) => seen.push(one),
        until: ({ merged }) => merged!.loss <= target
      })
      const row = { way: name, ...way, ...reached(seen, target, peers) }
      rows.push(row)
      console.log(JSON.stringify(row))
    }
    return { seed: SEED, target, steps, peers, batchSize, rows }
  } finally {
    await play.close()
  }
}

/** Where the loss crosses the target, between the last two looks; null where it never did. */
function reached(seen: readonly Measurement[], target: number, peers: number) {
  const last = seen.at(-1)!
  const before = seen.at(-2)
  const got = last.merged!.loss
  if (got > target) return { loss: got, bytesPerPeer: null, exchangesPerPeer: null, steps: null }
  const previous = before?.merged?.loss ?? Number.POSITIVE_INFINITY
  const share = Number.isFinite(previous) ? (previous - target) / (previous - got) : 1
  const between = (pick: (one: Measurement) => number): number => {
    const from = before === undefined ? 0 : pick(before)
    return from + share * (pick(last) - from)
  }
  return {
    loss: target,
    bytesPerPeer: between(({ bytes }) => bytes) / peers,
    exchangesPerPeer: between(({ exchangesPerPeer }) => exchangesPerPeer),
    /** Virtual seconds over those of a step: local steps of a peer of middling speed. */
    steps: between(({ atMs }) => atMs) / 250
  }
}
