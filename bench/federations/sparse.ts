import { parseArgs } from 'node:util'
import { seededRng } from '../../src/base/rng.js'
import type { VectorCodec } from '../../src/codec/codec.js'
import { codecByName } from '../../src/codec/registry.js'
import { addInto, axpy, subtract, weightedMean } from '../../src/tensor/linear.js'
import { evaluateDataset } from '../../src/train/evaluate.js'
import { meanOf } from './federation.js'
import { rowsOf } from '../flags.js'
import { lockstep } from './lockstep.js'
import { openLoraPlay, type Play, PLAY_FLAGS } from './shakespeare.js'

const SEED = 'sparse'

/** What everybody tells everybody, and what becomes of what it leaves out. */
interface Way {
  /** Share of the elements told in one update; absent: all of them in float32. */
  readonly fraction?: number
  /** Local steps between two updates. */
  readonly localSteps: number
  /** Of what was left out, the share that is kept for the next update. */
  readonly decay: number
  /** What the mean of the updates is multiplied by. */
  readonly outerStep: number
  /**
   * Where a peer trains on after an update: at the replica that all share (`replica`, as in SparseLoCo), or at the
   * replica and what it has left out itself (`own`), as with error feedback inside the model.
   */
  readonly from: 'replica' | 'own'
}

const WAYS: Readonly<Record<string, Way>> = {
  dense: { localSteps: 10, decay: 0, outerStep: 1, from: 'replica' },
  'replica-10': { fraction: 0.025, localSteps: 10, decay: 0.95, outerStep: 3, from: 'replica' },
  'replica-5': { fraction: 0.025, localSteps: 5, decay: 0.95, outerStep: 3, from: 'replica' },
  'own-10': { fraction: 0.025, localSteps: 10, decay: 0.95, outerStep: 2, from: 'own' },
  'own-5': { fraction: 0.025, localSteps: 5, decay: 0.95, outerStep: 2, from: 'own' }
}

const OPTIONS = {
  ...PLAY_FLAGS,
  steps: { type: 'string', default: '400' },
  batch: { type: 'string', default: '16' },
  settle: { type: 'string', default: '12' },
  only: { type: 'string' },
  /** Over those of every way named. */
  fraction: { type: 'string' },
  decay: { type: 'string' },
  'outer-step': { type: 'string' }
} as const

/**
 * `npm run bench -- sparse [--only dense,own-5] [--steps N] [--batch N] [--settle N] [--json]`: eight peers tell each other
 * the largest few changes in 4 bits, in rounds; LoRA of rank 8 on a play.
 */
export async function run(args: readonly string[]): Promise<object> {
  const { values } = parseArgs({ args: [...args], options: OPTIONS })
  const ways = rowsOf(WAYS, values.only)
  const [steps, batchSize, settleRounds] = [Number(values.steps), Number(values.batch), Number(values.settle)]
  const play = await openLoraPlay({ ...values, peers: 8, batchSize, seed: SEED })
  try {
    const rows: object[] = []
    for (const [name, planned] of ways) {
      const way: Way = {
        ...planned,
        ...(values.fraction && { fraction: Number(values.fraction) }),
        ...(values.decay && { decay: Number(values.decay) }),
        ...(values['outer-step'] && { outerStep: Number(values['outer-step']) })
      }
      const row = { way: name, ...way, ...(await outcome(play, way, { steps, settleRounds })) }
      rows.push(row)
      console.log(JSON.stringify(row))
    }
    return { seed: SEED, steps, batchSize, settleRounds, rows }
  } finally {
    await play.close()
  }
}

async function outcome(play: Play, way: Way, { steps, settleRounds }: { steps: number; settleRounds: number }) {
  const { initial, schema } = play.trainer.description
  const weights = play.datasets.map(({ size }) => size)
  const codec = way.fraction === undefined ? undefined : codecByName('topk-int4', { fraction: way.fraction })
  const told = createTelling({ way, codec, weights, replica: initial.slice() })
  const peers = await lockstep(play, { seed: SEED, steps, localSteps: way.localSteps, settleRounds, mix: told.round })
  const lossOf = async (x: Float32Array) =>
    (await evaluateDataset(play.trainer, x, play.datasets[0]!.evaluation(play.batchSize))).loss
  const losses = await Promise.all(peers.map(lossOf))
  const merged = Float32Array.from(weightedMean(peers, weights))
  return {
    merged: await lossOf(merged),
    replica: await lossOf(told.replica),
    peers: meanOf(losses),
    bytesPerUpdate: told.bytes() / told.updates(),
    updatesPerPeer: told.updates() / peers.length,
    againstFloat32: (4 * schema.size * told.updates()) / told.bytes()
  }
}

interface TellingParts {
  readonly way: Way
  readonly codec: VectorCodec | undefined
  readonly weights: readonly number[]
  /** The common start; live. */
  readonly replica: Float32Array
}

/** One round: all tell, then all add up what was told. */
function createTelling({ way, codec, weights, replica }: TellingParts) {
  const total = weights.reduce((sum, weight) => sum + weight, 0)
  const residuals = weights.map(() => new Float32Array(replica.length))
  const rng = seededRng(SEED, 'rounding')
  let [bytes, updates] = [0, 0]

  function tell(live: Float32Array, residual: Float32Array): Float32Array {
    const change = subtract(live, replica)
    if (way.from === 'replica') for (let i = 0; i < change.length; i++) change[i] = change[i]! + residual[i]!
    const payload = codec?.encode(change, rng)
    bytes += payload?.length ?? 4 * change.length
    updates++
    const read = payload === undefined ? undefined : codec!.decode(payload, change.length)
    const said = read === undefined || !read.ok ? change : read.value
    for (let i = 0; i < change.length; i++) residual[i] = way.decay * (change[i]! - said[i]!)
    return said
  }
  return {
    replica,
    bytes: () => bytes,
    updates: () => updates,
    round(peers: readonly Float32Array[]): void {
      const said = peers.map((live, peer) => tell(live, residuals[peer]!))
      said.forEach((update, peer) => {
        axpy((way.outerStep * weights[peer]!) / total, update, replica)
      })
      peers.forEach((live, peer) => {
        live.set(replica)
        if (way.from === 'own') addInto(residuals[peer]!, live)
      })
    }
  }
}
