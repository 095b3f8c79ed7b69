import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { parseArgs } from 'node:util'
import { PeertuneError } from '../../src/base/errors.js'
import type { PeftPlan } from '../../src/base/federation.js'
import { classificationCollator, type Example, tokenInputsOf } from '../../src/data/batches/collate.js'
import { createDataset } from '../../src/data/batches/dataset.js'
import { partition } from '../../src/data/splits/partition.js'
import { openTokenizer } from '../../src/data/text/tokenizer.js'
import { readModel } from '../../src/onnx/file/read.js'
import { writeModel } from '../../src/onnx/file/write.js'
import type { DatasetEvaluation } from '../../src/train/evaluate.js'
import type { Trainer } from '../../src/train/trainer.js'
import { alone, gossip, meanOf, spreadOver } from './federation.js'
import { rowsOf } from '../flags.js'
import { toClassifier } from './intent-model.js'
import { LLAMA_LINEARS, requireFile } from './shakespeare.js'
import { openTrainerPool } from './trainer-pool.js'

const SEED = 'clinc'
/** Tokens kept of a question; the tokenizer of stories260k makes about one of every two letters. */
const SEQUENCE_LENGTH = 32
const BATCH_SIZE = 16

const lowRank = { rank: 8, alpha: 16, targets: LLAMA_LINEARS, head: ['score'], seed: SEED }

interface Row {
  readonly peft: PeftPlan
  readonly learningRate: number
}

const ROWS: Readonly<Record<string, Row>> = {
  lora: { peft: { method: 'lora', ...lowRank }, learningRate: 1e-2 },
  'ffa-lora': { peft: { method: 'ffa-lora', ...lowRank }, learningRate: 1e-2 },
  'lora-xs': { peft: { method: 'lora-xs', ...lowRank, rank: 16, alpha: 16, heads: 1 }, learningRate: 1e-2 },
  ravan: { peft: { method: 'ravan', ...lowRank, alpha: 8, heads: 4 }, learningRate: 1e-2 }
}

const OPTIONS = {
  model: { type: 'string', default: '../shared/models/stories260k' },
  data: { type: 'string', default: '../shared/data/clinc150/data_full.json' },
  peers: { type: 'string', default: '16' },
  steps: { type: 'string', default: '200' },
  alpha: { type: 'string', default: '0.1,1' },
  /** Peers that are trained alone, too. */
  lone: { type: 'string', default: '16' },
  /** Every n-th test question is looked at. */
  'test-stride': { type: 'string', default: '5' },
  /** Domains of the questions, by their names in domains.json beside the data; all ten without it. */
  domains: { type: 'string' },
  only: { type: 'string' }
} as const

/**
 * `npm run bench -- clinc [--only lora,ravan] [--alpha 0.1,1] [--steps N] [--lone N] [--json]`: intents of CLINC150 (Larson et
 * al. 2019, https://aclanthology.org/D19-1131/) by Dirichlet over 16 peers. The model is stories260k, which has read
 * stories for children and nothing else, with a head of intents: direction counts here and not accuracy.
 */
export async function run(args: readonly string[]): Promise<object> {
  const { values } = parseArgs({ args: [...args], options: OPTIONS })
  const chosen = rowsOf(ROWS, values.only)
  const [peers, steps, lone] = [Number(values.peers), Number(values.steps), Number(values.lone)]
  const folder = await mkdtemp(join(tmpdir(), 'peertune-clinc-'))
  try {
    const questions = await readQuestions(
      await requireFile(values.data, 'give data_full.json of CLINC150 with --data'),
      Number(values['test-stride']),
      values.domains?.split(',')
    )
    const modelPath = join(folder, 'model.onnx')
    const base = await requireFile(join(values.model, 'model.onnx'), 'give its folder with --model DIR')
    const { labels } = questions
    const graph = toClassifier(await readModel(base), { labels: labels.length, seed: SEED })
    await writeFile(modelPath, writeModel(graph))
    const rows: object[] = []
    for (const [name, row] of chosen)
      for (const alpha of values.alpha.split(',').map(Number)) {
        const result = await outcome(row, { questions, modelPath, tokenizer: values.model, alpha, peers, steps, lone })
        rows.push({ method: name, ...result })
        console.log(JSON.stringify(rows.at(-1)))
      }
    return {
      seed: SEED,
      intents: labels.length,
      peers,
      steps,
      batchSize: BATCH_SIZE,
      lone: spreadOver(peers, lone),
      rows
    }
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

type Question = readonly [text: string, label: number]

interface Questions {
  readonly labels: readonly string[]
  readonly training: readonly Question[]
  readonly test: readonly Question[]
}

/** Those within the scope; `oos` ones have no intent. */
async function readQuestions(path: string, stride: number, domains?: readonly string[]): Promise<Questions> {
  const file = await readJson<Readonly<Record<'train' | 'test', [string, string][]>>>(path)
  const wanted = domains && (await intentsOf(join(dirname(path), 'domains.json'), domains))
  const labels = [...new Set(file.train.map(([, label]) => label))].filter((label) => wanted?.has(label) ?? true).sort()
  const indexed = (rows: readonly [string, string][]) =>
    rows.map(([text, label]): Question => [text, labels.indexOf(label)]).filter(([, label]) => label >= 0)
  return { labels, training: indexed(file.train), test: indexed(file.test).filter((_, i) => i % stride === 0) }
}

const readJson = async <T>(path: string): Promise<T> => JSON.parse(await readFile(path, 'utf8')) as T

async function intentsOf(path: string, domains: readonly string[]): Promise<ReadonlySet<string>> {
  const known = await readJson<Readonly<Record<string, readonly string[]>>>(path)
  const stranger = domains.find((domain) => known[domain] === undefined)
  if (stranger !== undefined)
    throw new PeertuneError('config/bad-flag', `--domains knows ${Object.keys(known).join(', ')}, got ${stranger}`)
  return new Set(domains.flatMap((domain) => known[domain]!))
}

interface Experiment {
  readonly questions: Questions
  readonly modelPath: string
  readonly tokenizer: string
  readonly alpha: number
  readonly peers: number
  readonly steps: number
  readonly lone: number
}

async function outcome({ peft, learningRate }: Row, experiment: Experiment) {
  const { questions, modelPath, alpha, peers, steps, lone } = experiment
  const task = { kind: 'sequence-classification', labels: questions.labels } as const
  const trainer = await openTrainerPool({ modelPath, task, peft, device: 'cpu', threads: 1, activationCacheMb: 0 })
  try {
    const datasets = await dealt(experiment, trainer)
    const training = { trainer, datasets, batchSize: BATCH_SIZE, optimiser: { learningRate, weightDecay: 0 } }
    const { measurements, network } = await gossip(training, { seed: SEED, steps, measurements: 1 })
    const { peers: mixed, merged } = measurements.at(-1)!
    const lonely = spreadOver(peers, lone)
    const accuracies = (of: readonly DatasetEvaluation[]) => of.map(({ accuracy }) => 100 * accuracy)
    const by = accuracies(await alone(training, steps, lonely))
    return {
      alpha,
      parameters: trainer.description.schema.size,
      learningRate,
      examples: datasets.map(({ size }) => size),
      localOnly: meanOf(by),
      peersMixed: meanOf(accuracies(mixed!)),
      worstPeer: Math.min(...accuracies(mixed!)),
      merged: 100 * merged!.accuracy,
      bytesPerPeer: network.bytes / peers
    }
  } finally {
    await trainer.close()
  }
}

/** Every peer's share of the questions, and the test for all. */
async function dealt({ questions, tokenizer: folder, alpha, peers }: Experiment, { description }: Trainer) {
  const tokenizer = await openTokenizer(folder)
  const examples = (of: readonly Question[]): Example[] =>
    of.map(([text, label]) => ({ values: tokenizer.encodeWithSpecials(text, SEQUENCE_LENGTH), label }))
  const [training, heldOut] = [examples(questions.training), examples(questions.test)]
  const collate = classificationCollator(tokenInputsOf(description), SEQUENCE_LENGTH, tokenizer.pad)
  const scheme = { kind: 'dirichlet', alpha, minimum: BATCH_SIZE } as const
  const labels = training.map(({ label }) => label)
  return partition(labels, scheme, peers, SEED).map((share, peer) =>
    createDataset({ training: share.map((i) => training[i]!), heldOut, seed: `${SEED}/${peer}`, collate })
  )
}
