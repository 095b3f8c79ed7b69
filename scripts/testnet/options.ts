import { parseArgs } from 'node:util'
import { MIXING_CODECS, type MixingCodec } from '../../src/base/federation.js'
import { PeertuneError } from '../../src/base/errors.js'

export interface TestnetOptions {
  readonly peers: number
  /** Folder of a base model (model.onnx, tokenizer.json); absent: the glyph model that ships. */
  readonly model: string | undefined
  /** Text file for a causal language model; needs `model`. */
  readonly data: string | undefined
  readonly split: 'speaker' | undefined
  /** Local optimiser steps of each peer. */
  readonly steps: number | undefined
  readonly localSteps: number | undefined
  readonly learningRate: number | undefined
  readonly batchSize: number | undefined
  readonly rank: number | undefined
  /**
   * Not what `peertune federation create` writes for a few peers: top-k of a quarter needs more exchanges to agree than the
   * letters' 180 steps have, and ends two to four points lower.
   */
  readonly codec: MixingCodec
  /** Share of the elements that a sparse codec sends. */
  readonly fraction: number | undefined
  /** File of what goes wrong (disturbances.ts); the run is then compared with one in which nothing does. */
  readonly scenario: string | undefined
  /** Compare with an undisturbed run. */
  readonly undisturbed: boolean
  readonly seed: string
  /** Where the JSON report goes. */
  readonly report: string
  readonly central: boolean
  readonly localOnly: boolean
  /** Working folder; absent: a temporary one that is removed at the end. */
  readonly keep: string | undefined
  /** Milliseconds until the run is given up. */
  readonly timeoutMs: number
}

/** Processes on one machine: each node and its trainer take about 250 MB. */
export const MAX_PEERS = 64

export const USAGE = `npm run testnet -- [options]

  --peers N            node processes (default 8)
  --model DIR          base model folder with model.onnx (default: the glyph model that ships)
  --data FILE          text file for a causal language model (needs --model)
  --split speaker      deal a play's speakers to the peers
  --steps N            local steps of each peer
  --local-steps N      local steps between exchanges
  --learning-rate X    peak learning rate of AdamW
  --batch-size N
  --rank N             LoRA rank
  --codec NAME         float32, float16, int8 (default), int4, int8-edge, int4-edge, topk-edge, topk-int4-edge,
                       rank-slots-edge or powergossip
  --fraction X         share of the elements that a sparse codec sends (default 0.1)
  --scenario FILE      peers that are killed, come late, are split from each other: examples/testnet/churn.yaml;
                       compared with a run in which nothing goes wrong
  --no-undisturbed     leave out that other run
  --seed TEXT          seed of everything (default peertune)
  --report FILE        JSON report (default testnet-report.json)
  --no-central         leave out the machine that has all data
  --no-local-only      leave out the peers that train alone
  --keep DIR           work in DIR and keep configs, logs and checkpoints
  --timeout SECONDS    give up after this long (default 1800)
  --help`

const isMixingCodec = (name: string): name is MixingCodec => (MIXING_CODECS as readonly string[]).includes(name)

const bad = (message: string) => new PeertuneError('config/bad-flag', message, { hint: 'npm run testnet -- --help' })

function positive(name: string, text: string | undefined, integer = true): number | undefined {
  if (text === undefined) return undefined
  const value = Number(text)
  if (!(value > 0) || (integer && !Number.isInteger(value)))
    throw bad(`--${name} needs a positive ${integer ? 'integer' : 'number'}, got ${text}`)
  return value
}

function parse(argv: readonly string[]) {
  const text = { type: 'string' } as const
  const flag = { type: 'boolean' } as const
  try {
    return parseArgs({
      args: [...argv],
      options: {
        peers: text,
        model: text,
        data: text,
        split: text,
        steps: text,
        'local-steps': text,
        'learning-rate': text,
        'batch-size': text,
        rank: text,
        codec: text,
        fraction: text,
        scenario: text,
        'no-undisturbed': flag,
        seed: text,
        report: text,
        'no-central': flag,
        'no-local-only': flag,
        keep: text,
        timeout: text,
        help: flag
      }
    }).values
  } catch (cause) {
    throw new PeertuneError('config/bad-flag', (cause as Error).message, { hint: 'npm run testnet -- --help', cause })
  }
}

/** Returns `'help'` when help was asked for. Throws `config/bad-flag`. */
export function parseOptions(argv: readonly string[]): TestnetOptions | 'help' {
  const flags = parse(argv)
  if (flags.help) return 'help'
  const peers = positive('peers', flags.peers) ?? 8
  if (peers < 2 || peers > MAX_PEERS) throw bad(`--peers needs 2 to ${MAX_PEERS}, got ${peers}`)
  if (flags.split !== undefined && flags.split !== 'speaker')
    throw bad(`--split knows only "speaker", got ${flags.split}`)
  const codec = flags.codec ?? 'int8'
  if (!isMixingCodec(codec)) throw bad(`--codec needs one of ${MIXING_CODECS.join(', ')}, got ${codec}`)
  if ((flags.data === undefined) !== (flags.model === undefined)) throw bad('--model and --data go together')
  return {
    peers,
    model: flags.model,
    data: flags.data,
    split: flags.split,
    steps: positive('steps', flags.steps),
    localSteps: positive('local-steps', flags['local-steps']),
    learningRate: positive('learning-rate', flags['learning-rate'], false),
    batchSize: positive('batch-size', flags['batch-size']),
    rank: positive('rank', flags.rank),
    codec,
    fraction: positive('fraction', flags.fraction, false),
    scenario: flags.scenario,
    undisturbed: flags['no-undisturbed'] !== true,
    seed: flags.seed ?? 'peertune',
    report: flags.report ?? 'testnet-report.json',
    central: flags['no-central'] !== true,
    localOnly: flags['no-local-only'] !== true,
    keep: flags.keep,
    timeoutMs: (positive('timeout', flags.timeout) ?? 1800) * 1000
  }
}
