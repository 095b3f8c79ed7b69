import { access } from 'node:fs/promises'
import { join } from 'node:path'
import { PeertuneError } from '../src/base/errors.js'
import type { PeftPlan } from '../src/base/federation.js'
import type { Dataset } from '../src/data/batch.js'
import { openDataset } from '../src/data/source.js'
import type { TextSpec } from '../src/data/spec.js'
import type { Training } from '../src/sim/trained.js'
import type { Trainer } from '../src/train/trainer.js'
import { openTrainerPool } from './trainer-pool.js'

/** Every linear layer of a Llama. */
export const LLAMA_LINEARS = ['q_proj', 'k_proj', 'v_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj']
const SEQUENCE_LENGTH = 128

/** Files of the experiment: a causal language model and a play. */
export interface PlayFiles {
  /** Folder with model.onnx and tokenizer.json. */
  readonly model: string
  readonly data: string
}

export const PLAY_FLAGS = {
  model: { type: 'string', default: '../shared/models/stories260k' },
  data: { type: 'string', default: '../shared/data/tinyshakespeare/input.txt' }
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
  /** Everybody's text as one data source. */
  readonly together: Dataset
  close(): Promise<void>
}

export interface PlayOptions extends PlayFiles {
  readonly peers: number
  readonly batchSize: number
  readonly peft: PeftPlan
  readonly learningRate: number
  readonly seed: string
}

export async function openPlay(options: PlayOptions): Promise<Play> {
  const { model, data, peers, batchSize, peft, learningRate, seed } = options
  const modelPath = await requireFile(join(model, 'model.onnx'), 'give its folder with --model DIR')
  const path = await requireFile(data, 'give a play in plain text with --data FILE')
  const task = { kind: 'causal-lm' } as const
  const trainer = await openTrainerPool({ modelPath, task, peft, device: 'cpu', threads: 1, activationCacheMb: 0 })
  const open = (peer?: number): Promise<Dataset> => {
    const split = { by: 'speaker', peers, ...(peer === undefined ? {} : { peer }) } as const
    const own = `${seed}/${peer ?? 'all'}`
    const spec: TextSpec = { kind: 'text', path, tokenizer: model, sequenceLength: SEQUENCE_LENGTH, seed: own, split }
    return openDataset(spec, task, trainer.description)
  }
  return {
    trainer,
    datasets: await Promise.all(Array.from({ length: peers }, (_, peer) => open(peer))),
    together: await open(),
    batchSize,
    optimiser: { learningRate, weightDecay: 0 },
    close: () => trainer.close()
  }
}
