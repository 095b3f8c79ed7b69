import { parseArgs } from 'node:util'
import { PeertuneError } from '../../src/base/errors.js'
import type { PeftPlan } from '../../src/base/federation.js'
import type { CodecName } from '../../src/codec/codec.js'
import { CODEC_NAMES, isCodecName } from '../../src/codec/registry.js'
import { evaluateDataset } from '../../src/train/evaluate.js'
import { alone, gossip, meanOf, spreadOver } from './federation.js'
import { rowsOf } from '../flags.js'
import { LLAMA_LINEARS, openPlay, PLAY_FLAGS, type PlayFiles } from './shakespeare.js'

/** One row of the table. Rates are usual ones for the method, not tuned for this model. */
interface Row {
  readonly peft: PeftPlan
  readonly learningRate: number
}

const SEED = 'methods'
const common = { head: [], seed: SEED }
const lowRank = { rank: 8, alpha: 16, targets: LLAMA_LINEARS, ...common }

/** Every method on all linear layers where it takes layers, at a size that is usual for it. */
const ROWS: Readonly<Record<string, Row>> = {
  lora: { peft: { method: 'lora', ...lowRank }, learningRate: 3e-3 },
  'lora-alternate': { peft: { method: 'lora', ...lowRank, alternate: { every: 5 } }, learningRate: 3e-3 },
  rslora: { peft: { method: 'rslora', ...lowRank, alpha: 5.657 }, learningRate: 3e-3 },
  dora: { peft: { method: 'dora', ...lowRank }, learningRate: 3e-3 },
  'ffa-lora': { peft: { method: 'ffa-lora', ...lowRank }, learningRate: 1e-2 },
  'lora-svd': { peft: { method: 'lora', ...lowRank, start: 'svd' }, learningRate: 3e-3 },
  'lora-xs': { peft: { method: 'lora-xs', ...lowRank, rank: 16, alpha: 16, heads: 1 }, learningRate: 1e-2 },
  ravan: { peft: { method: 'ravan', ...lowRank, alpha: 8, heads: 4 }, learningRate: 1e-2 },
  bottleneck: {
    peft: { method: 'bottleneck', placement: 'pfeiffer', targets: [], width: 16, activation: 'gelu', ...common },
    learningRate: 3e-3
  },
  ia3: {
    peft: { method: 'ia3', targets: ['k_proj', 'v_proj', 'down_proj'], feedforward: ['down_proj'], ...common },
    learningRate: 3e-2
  },
  prompt: { peft: { method: 'prompt', tokens: 16, ...common }, learningRate: 3e-2 },
  prefix: { peft: { method: 'prefix', tokens: 16, ...common }, learningRate: 3e-2 },
  layernorm: { peft: { method: 'layernorm', targets: [], ...common }, learningRate: 3e-2 },
  partial: { peft: { method: 'partial', targets: [], lastLayers: 1, ...common }, learningRate: 3e-3 },
  'sparse-random': {
    peft: { method: 'sparse', targets: LLAMA_LINEARS, density: 0.05, mask: 'random', ...common },
    learningRate: 3e-3
  },
  'sparse-magnitude': {
    peft: { method: 'sparse', targets: LLAMA_LINEARS, density: 0.05, mask: 'magnitude', ...common },
    learningRate: 3e-3
  },
  full: { peft: { method: 'full', seed: SEED }, learningRate: 1e-3 }
}

const OPTIONS = {
  ...PLAY_FLAGS,
  steps: { type: 'string', default: '400' },
  peers: { type: 'string', default: '8' },
  batch: { type: 'string', default: '16' },
  /** Peers that are trained alone, too, for comparison. */
  lone: { type: 'string', default: '8' },
  codec: { type: 'string', default: 'int8' },
  /** Of a sparse codec. */
  fraction: { type: 'string', default: '0.25' },
  only: { type: 'string' },
  rate: { type: 'string' }
} as const

export interface MethodResult {
  readonly method: string
  readonly parameters: number
  readonly learningRate: number
  readonly steps: number
  readonly batchSize: number
  readonly codec: CodecName
  /** Held-out losses in nats per token. */
  readonly start: number
  readonly localOnly: number
  readonly peersMixed: number
  readonly samePeersMixed: number
  readonly merged: number
  /** Bytes a peer sent, on average. */
  readonly bytesPerPeer: number
  readonly exchangesPerPeer: number
  readonly seconds: number
}

/**
 * `npm run bench -- methods [--only lora,dora] [--steps N] [--peers N] [--model DIR] [--data FILE] [--json]`: a causal
 * language model on a play dealt by speaker, mixed by the daemon's own exchanges on a virtual clock: one row per method.
 */
export async function run(args: readonly string[]): Promise<object> {
  const { values } = parseArgs({ args: [...args], options: OPTIONS })
  const chosen = rowsOf(ROWS, values.only)
  const { model, data, 'test-stride': stride } = values
  const size: Size = {
    model,
    data,
    'test-stride': stride,
    steps: Number(values.steps),
    peers: Number(values.peers),
    batchSize: Number(values.batch),
    lone: Number(values.lone),
    codec: codecOf(values.codec),
    fraction: Number(values.fraction)
  }
  const rows: MethodResult[] = []
  for (const [name, row] of chosen) {
    const learningRate = values.rate === undefined ? row.learningRate : Number(values.rate)
    const result = await methodResult(name, { ...row, learningRate }, size)
    rows.push(result)
    console.log(JSON.stringify(result))
  }
  const { steps, peers, batchSize, lone } = size
  return { seed: SEED, peers, steps, batchSize, lone: spreadOver(peers, lone), rows }
}

interface Size extends PlayFiles {
  readonly steps: number
  readonly peers: number
  readonly batchSize: number
  readonly lone: number
  readonly codec: CodecName
  readonly fraction: number
}

function codecOf(name: string): CodecName {
  if (isCodecName(name)) return name
  throw new PeertuneError('config/bad-flag', `--codec knows ${CODEC_NAMES.join(', ')}, got ${name}`)
}

async function methodResult(method: string, { peft, learningRate }: Row, size: Size): Promise<MethodResult> {
  const { steps, peers, lone: count, codec, fraction, ...files } = size
  const startedMs = performance.now()
  const play = await openPlay({ ...files, peers, peft, learningRate, seed: SEED })
  try {
    const { trainer, datasets, batchSize } = play
    const { initial, schema } = trainer.description
    const start = await evaluateDataset(trainer, initial, datasets[0]!.evaluation(batchSize))
    const { measurements, network, exchanges } = await gossip(play, { seed: SEED, steps, codec, fraction })
    const last = measurements.at(-1)!
    const lonely = spreadOver(peers, count)
    const lone = await alone(play, steps, lonely)
    const losses = last.peers!.map(({ loss }) => loss)
    return {
      method,
      parameters: schema.size,
      learningRate,
      steps,
      batchSize: play.batchSize,
      codec,
      start: start.loss,
      localOnly: meanOf(lone.map(({ loss }) => loss)),
      peersMixed: meanOf(losses),
      /** The same peers as in `localOnly`. */
      samePeersMixed: meanOf(lonely.map((peer) => losses[peer]!)),
      merged: last.merged!.loss,
      bytesPerPeer: network.bytes / peers,
      exchangesPerPeer: (2 * exchanges) / peers,
      seconds: (performance.now() - startedMs) / 1000
    }
  } finally {
    await play.close()
  }
}
