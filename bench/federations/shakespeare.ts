import { access, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { PeertuneError } from '../../src/base/errors.js'
import type { PeftPlan } from '../../src/base/federation.js'
import type { Dataset } from '../../src/data/batches/batch.js'
import { causalCollator, type Example, tokenInputsOf } from '../../src/data/batches/collate.js'
import { createDataset } from '../../src/data/batches/dataset.js'
import { speakersOfPeer, splitSpeakers } from '../../src/data/text/speakers.js'
import { packTokens } from '../../src/data/text/text.js'
import { openTokenizer } from '../../src/data/text/tokenizer.js'
import { trainingTurns } from '../../src/node/model/training-turns.js'
import type { Training } from '../../src/sim/workload/trained.js'
import type { Trainer } from '../../src/train/trainer.js'
import { openTrainerPool } from './trainer-pool.js'

/** Every linear layer of a Llama. */
export const LLAMA_LINEARS = ['q_proj', 'k_proj', 'v_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj']
const SEQUENCE_LENGTH = 128

/** Files of the experiment: a causal language model and a play. */
export interface PlayFiles {
  /** Folder with model.onnx and tokenizer.json. */
  readonly model: string
  readonly data: string
  readonly 'test-stride': string
}

export const PLAY_FLAGS = {
  model: { type: 'string', default: '../shared/models/stories260k' },
  data: { type: 'string', default: '../shared/data/tinyshakespeare/input.txt' },
  /** Every n-th held-out sequence is looked at. */
  'test-stride': { type: 'string', default: '1' }
} as const

/** Throws `bench/no-file` with what to give instead. */
export async function requireFile(file: string, hint: string): Promise<string> {
  await access(file).catch((cause: unknown) => {
    throw new PeertuneError('bench/no-file', `${file} is not there`, { hint, cause })
  })
  return file
}

/** A play dealt by speaker: peer g of n holds the speakers g, g + n, ... by size; a tenth of every speaker is held out. */
export interface Play extends Training {
  readonly trainer: Trainer
  close(): Promise<void>
}

export interface PlayOptions extends PlayFiles {
  readonly peers: number
  readonly batchSize: number
  readonly peft: PeftPlan
  readonly learningRate: number
  readonly seed: string
  /** Between exchanges, for factors that train in turn. Default 10, as a manifest's. */
  readonly localSteps?: number
}

export async function openPlay(options: PlayOptions): Promise<Play> {
  const { model, data, peers, batchSize, peft, learningRate, seed, localSteps = 10 } = options
  const modelPath = await requireFile(join(model, 'model.onnx'), 'give its folder with --model DIR')
  const speakers = await readSpeakers(data, model)
  const task = { kind: 'causal-lm' } as const
  const trainer = await openTrainerPool({ modelPath, task, peft, device: 'cpu', threads: 1, activationCacheMb: 0 })
  const collate = causalCollator(tokenInputsOf(trainer.description), SEQUENCE_LENGTH)
  const stride = Number(options['test-stride'])
  const heldOut = speakers.flatMap((speaker) => speaker.heldOut).filter((_, i) => i % stride === 0)
  const datasetOf = (peer: number): Dataset => {
    const training = speakersOfPeer(speakers.length, peer, peers).flatMap((i) => speakers[i]!.training)
    return createDataset({ training, heldOut, seed: `${seed}/${peer}`, collate })
  }
  return {
    trainer,
    datasets: Array.from({ length: peers }, (_, peer) => datasetOf(peer)),
    batchSize,
    optimiser: { learningRate, weightDecay: 0 },
    turns: trainingTurns(peft, trainer.description.schema, localSteps),
    close: () => trainer.close()
  }
}

/** With LoRA of rank 8 on every linear layer, at the rate that is usual for it. */
export const openLoraPlay = (options: Omit<PlayOptions, 'peft' | 'learningRate'>): Promise<Play> =>
  openPlay({
    ...options,
    peft: { method: 'lora', rank: 8, alpha: 16, targets: LLAMA_LINEARS, head: [], seed: options.seed },
    learningRate: 3e-3
  })

interface Sequences {
  readonly training: readonly Example[]
  readonly heldOut: readonly Example[]
}

/** What was read last: tokenising a play for every method would take longer than training on it. */
let lastRead: { readonly key: string; readonly speakers: readonly Sequences[] } | undefined

/** Of each speaker the first tenth of the sequences, at least one, is held out: as data of the kind `text` is. */
async function readSpeakers(data: string, model: string): Promise<readonly Sequences[]> {
  const key = `${data} ${model}`
  if (lastRead?.key === key) return lastRead.speakers
  const play = await readFile(await requireFile(data, 'give a play in plain text with --data FILE'), 'utf8')
  const tokenizer = await openTokenizer(model)
  const speakers = splitSpeakers(play).map(({ text }) => {
    const sequences = packTokens(tokenizer.encode(text), tokenizer.bos, SEQUENCE_LENGTH)
    const held = Math.max(1, Math.floor(sequences.length / 10))
    return { training: sequences.slice(held), heldOut: sequences.slice(0, held) }
  })
  lastRead = { key, speakers }
  return speakers
}
