import { join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { FederationManifest, PeftSpec, TaskSpec } from '../../src/base/federation.js'
import { LETTERS } from '../../src/data/images/glyph-shapes.js'
import { dealClasses } from '../../src/data/splits/partition.js'
import type { DataSpec } from '../../src/data/spec.js'
import { createManifest } from '../../src/node/config/manifest.js'
import type { TrainerSpec } from '../../src/train/trainer.js'
import type { TestnetOptions } from './options.js'

/** What the federation learns, who holds what, and how it is measured. */
export interface Scenario {
  readonly title: string
  readonly metric: 'accuracy' | 'loss'
  readonly manifest: FederationManifest
  readonly trainer: TrainerSpec
  readonly training: {
    readonly steps: number
    readonly batchSize: number
    readonly learningRate: number
    readonly weightDecay: number
  }
  dataOfPeer(peer: number): DataSpec
  /** The data of all peers together. */
  readonly allData: DataSpec
}

/** Root of the package, from dist/scripts/testnet/. */
const PACKAGE_ROOT = fileURLToPath(new URL('../../../', import.meta.url))
export const GLYPH_MODEL = join(PACKAGE_ROOT, 'models', 'glyphs', 'model.onnx')

const CLASSES = LETTERS.slice(0, 20)
/** Letters each peer holds, at least: a third of them, and every letter is somewhere. */
const LETTERS_PER_PEER = 6
const IMAGES_PER_PEER = 600
const TEST_IMAGES = 520

/** All that nobody asks for is what `peertune federation create` writes, save the codec (options.ts). */
const mixing = ({ localSteps, codec, fraction }: TestnetOptions, suggestedSteps: number) => ({
  localSteps: localSteps ?? suggestedSteps,
  codec,
  ...(fraction !== undefined && { fraction })
})

function assemble(
  options: TestnetOptions,
  parts: Omit<Scenario, 'manifest' | 'trainer'> & {
    readonly modelPath: string
    readonly modelSha256: string
    readonly task: TaskSpec
    readonly peft: PeftSpec
    readonly localSteps: number
  }
): Scenario {
  const { modelPath, modelSha256, task, peft, localSteps, ...rest } = parts
  return {
    ...rest,
    manifest: createManifest(
      {
        peertune: 1,
        name: rest.title,
        model: { sha256: modelSha256 },
        task,
        peft,
        mixing: mixing(options, localSteps)
      },
      (path) => `--${path.at(-1)}`
    ),
    trainer: { modelPath, task, peft, device: 'cpu', threads: 1 }
  }
}

/** The letters of each peer, dealt in turn from a seeded order; few peers hold more, so that none is left over. */
const dealLetters = (peers: number, seed: string): readonly (readonly string[])[] =>
  dealClasses(CLASSES.length, peers, Math.max(LETTERS_PER_PEER, Math.ceil(CLASSES.length / peers)), seed).map((hand) =>
    hand.map((letter) => CLASSES[letter] ?? '').sort()
  )

/** The default: letters for a vision transformer that has seen only digits. */
export function glyphScenario(options: TestnetOptions, modelSha256: string): Scenario {
  const hands = dealLetters(options.peers, options.seed)
  const glyphs = (peer: number): DataSpec & { kind: 'glyphs' } => ({
    kind: 'glyphs',
    classes: hands[peer] ?? [],
    samples: IMAGES_PER_PEER,
    seed: `${options.seed}/peer-${peer}`,
    testSamples: TEST_IMAGES,
    testSeed: `${options.seed}/test`
  })
  const rank = options.rank ?? 8
  return assemble(options, {
    title: 'glyph-letters',
    metric: 'accuracy',
    modelPath: GLYPH_MODEL,
    modelSha256,
    task: { kind: 'image-classification', labels: CLASSES },
    peft: {
      method: 'lora',
      rank,
      alpha: 2 * rank,
      targets: ['query', 'key', 'value', 'dense'],
      head: ['classifier'],
      seed: options.seed
    },
    localSteps: 3,
    training: {
      steps: options.steps ?? 180,
      batchSize: options.batchSize ?? 32,
      learningRate: options.learningRate ?? 8e-3,
      weightDecay: 0
    },
    dataOfPeer: glyphs,
    allData: { kind: 'union', parts: hands.map((_, peer) => glyphs(peer)), seed: options.seed }
  })
}

/** A causal language model on a text dealt by speaker; figures of the reference protocol for tiny Shakespeare. */
export function textScenario(options: TestnetOptions, modelSha256: string): Scenario {
  const folder = resolve(options.model ?? '')
  const text = (peer?: number): DataSpec => ({
    kind: 'text',
    path: resolve(options.data ?? ''),
    tokenizer: join(folder, 'tokenizer.json'),
    sequenceLength: 128,
    seed: `${options.seed}/peer-${peer ?? 'all'}`,
    split: { by: 'speaker', peers: options.peers, ...(peer === undefined ? {} : { peer }) }
  })
  const rank = options.rank ?? 8
  return assemble(options, {
    title: 'text',
    metric: 'loss',
    modelPath: join(folder, 'model.onnx'),
    modelSha256,
    task: { kind: 'causal-lm' },
    peft: {
      method: 'lora',
      rank,
      alpha: 2 * rank,
      targets: ['q_proj', 'k_proj', 'v_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj'],
      head: [],
      seed: options.seed
    },
    localSteps: 10,
    training: {
      steps: options.steps ?? 400,
      batchSize: options.batchSize ?? 16,
      learningRate: options.learningRate ?? 3e-3,
      weightDecay: 0
    },
    dataOfPeer: text,
    allData: text()
  })
}
