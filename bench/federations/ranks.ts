import { parseArgs } from 'node:util'
import { mixProducts, type Sized } from '../../src/consensus/rules/nested-mixing.js'
import { factorsOf } from '../../src/tensor/factors.js'
import { addInto } from '../../src/tensor/linear.js'
import type { ParameterSchema } from '../../src/tensor/schema.js'
import { nestedPart, withSlots } from '../../src/tensor/slots.js'
import { evaluateDataset } from '../../src/train/evaluate.js'
import { meanOf } from './federation.js'
import { lockstep, pairsOf } from './lockstep.js'
import { LLAMA_LINEARS, openPlay, type Play, PLAY_FLAGS } from './shakespeare.js'

const SEED = 'ranks'
const RANK = 16
const SMALL_RANK = 4
/** The peers of the small rank. */
const SMALL = [2, 5]

const OPTIONS = {
  ...PLAY_FLAGS,
  steps: { type: 'string', default: '200' },
  batch: { type: 'string', default: '8' },
  only: { type: 'string' }
} as const

/**
 * All peers have vectors of rank 16 over one common start of A, and the same scale. One of rank 4 trains its first four
 * rank slots; the others of its vector it neither trains nor owns.
 */
type Rule = 'all-16' | 'slots' | 'product' | 'zero-padding'

/**
 * `npm run bench -- ranks [--steps N] [--batch N] [--only slots,zero-padding] [--json]`: two peers of rank 4 and six of
 * rank 16, LoRA on a play. Slots: a slot is mixed among those who own it (peerRanks: nested). Product: between peers of two
 * ranks, the mean of both products is cut to each rank (peerRanks: product). Zero-padding (HetLoRA, Cho et al. 2024,
 * https://arxiv.org/abs/2401.06432): who does not own a slot counts as zero in it. Beside them: everybody at rank 16.
 */
export async function run(args: readonly string[]): Promise<object> {
  const { values } = parseArgs({ args: [...args], options: OPTIONS })
  const rules = (values.only?.split(',') ?? ['all-16', 'slots', 'product', 'zero-padding']) as Rule[]
  const [steps, batchSize] = [Number(values.steps), Number(values.batch)]
  const play = await openPlay({
    ...values,
    peers: 8,
    batchSize,
    peft: { method: 'lora', rank: RANK, alpha: 2 * RANK, targets: LLAMA_LINEARS, head: [], seed: SEED },
    learningRate: 3e-3,
    seed: SEED
  })
  try {
    const rows: object[] = []
    for (const rule of rules) {
      const row = { rule, ...(await outcome(play, rule, steps)) }
      rows.push(row)
      console.log(JSON.stringify(row))
    }
    return { seed: SEED, steps, batchSize, small: SMALL, rows }
  } finally {
    await play.close()
  }
}

async function outcome(play: Play, rule: Rule, steps: number) {
  const { schema } = play.trainer.description
  const small = firstSlots(schema, SMALL_RANK)
  const owned = play.datasets.map((_, peer) => (rule !== 'all-16' && SMALL.includes(peer) ? small : undefined))
  const memberOf = (x: Float32Array, peer: number): Member => ({
    x,
    owns: owned[peer],
    weight: play.datasets[peer]!.size
  })
  const peers = await lockstep(play, {
    seed: SEED,
    steps,
    localSteps: 10,
    settleRounds: 12,
    masks: owned,
    mix: (vectors, { rng }) => {
      for (const [a, b] of pairsOf(vectors.length, rng))
        mixPair([memberOf(vectors[a]!, a), memberOf(vectors[b]!, b)], rule, schema)
    }
  })
  const mine = peers.map((x, peer) => visible(x, owned[peer]))
  const evaluate = (x: Float32Array) => evaluateDataset(play.trainer, x, play.datasets[0]!.evaluation(play.batchSize))
  const lossOf = async (x: Float32Array) => (await evaluate(x)).loss
  const losses = await Promise.all(mine.map(lossOf))
  return {
    merged: await lossOf(merged(mine.map(memberOf), rule)),
    peersOf16: meanOf(losses.filter((_, peer) => !SMALL.includes(peer))),
    peersOf4: meanOf(losses.filter((_, peer) => SMALL.includes(peer)))
  }
}

/** 1 for every element of the first `rank` slots, and of tensors that are no factors. */
function firstSlots(schema: ParameterSchema, rank: number): Float32Array {
  const mask = new Float32Array(schema.size).fill(1)
  for (const { a, b, rank: all, inFeatures, outFeatures } of factorsOf(schema).pairs) {
    mask.fill(0, a.offset + rank * inFeatures, a.offset + all * inFeatures)
    for (let row = 0; row < outFeatures; row++) mask.fill(0, b.offset + row * all + rank, b.offset + (row + 1) * all)
  }
  return mask
}

interface Member {
  readonly x: Float32Array
  readonly owns: Float32Array | undefined
  readonly weight: number
}

/** Both to the weighted mean of what they own in common; with zero-padding, of what either owns. */
function mixPair([one, other]: readonly [Member, Member], rule: Rule, schema: ParameterSchema): void {
  if (rule === 'product' && one.owns !== other.owns) return mixProductsOf(one, other, schema)
  for (let i = 0; i < one.x.length; i++) {
    const [left, right] = [one.owns?.[i] !== 0, other.owns?.[i] !== 0]
    if (!(left && right) && !(rule === 'zero-padding' && (left || right))) continue
    const total = one.weight + other.weight
    const mean = ((left ? one.weight * one.x[i]! : 0) + (right ? other.weight * other.x[i]! : 0)) / total
    if (left) one.x[i] = mean
    if (right) other.x[i] = mean
  }
}

/** As the daemon does it between peers of two ranks. */
function mixProductsOf(one: Member, other: Member, schema: ParameterSchema): void {
  const part = nestedPart(schema, withSlots(schema, SMALL_RANK))
  const sized = ({ x, owns }: Member): Sized =>
    owns === undefined ? { vector: x.slice(), schema } : { vector: part.take(x), schema: part.schema }
  const [a, b] = [sized(one), sized(other)]
  const total = one.weight + other.weight
  for (const [member, own, partner, rho] of [
    [one, a, b, other.weight / total],
    [other, b, a, one.weight / total]
  ] as const) {
    const { increment } = mixProducts(own, partner, rho)
    if (member.owns === undefined) addInto(increment, member.x)
    else part.addInto(increment, member.x)
  }
}

/** The peer's own model: slots it does not own do nothing. */
function visible(x: Float32Array, owns: Float32Array | undefined): Float32Array {
  return owns === undefined ? x : x.map((value, i) => (owns[i] === 0 ? 0 : value))
}

/** Slot by slot the weighted mean of its owners, or of everybody with zeros for those who are none. */
function merged(members: readonly Member[], rule: Rule): Float32Array {
  return members[0]!.x.map((_, i) => {
    let [sum, total] = [0, 0]
    for (const { x, owns, weight } of members) {
      if (owns?.[i] !== 0) sum += weight * x[i]!
      if (owns?.[i] !== 0 || rule === 'zero-padding') total += weight
    }
    return sum / total
  })
}
