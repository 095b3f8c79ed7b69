import { PeertuneError } from '../base/errors.js'
import type { TaskSpec } from '../base/federation.js'
import type { Dataset } from './batch.js'
import type { ModelInputs } from './collate.js'
import { createDataset, type DatasetParts } from './dataset.js'
import { readGlyphs } from './glyphs.js'
import { readIdxPair } from './idx.js'
import { readJsonl } from './jsonl.js'
import type { DataSpec, FileSpec, UnionSpec } from './spec.js'
import { readTextFile } from './text.js'

/**
 * Opens a peer's private data for a task and a model. Everything that can be wrong with it is said here, before the
 * first step: `data/wrong-task`, `data/model-mismatch`, `data/no-file`, `data/empty`, `data/bad-row`, ...
 */
export async function openDataset(spec: DataSpec, task: TaskSpec, model: ModelInputs): Promise<Dataset> {
  return createDataset(spec.kind === 'union' ? await readUnion(spec, task, model) : await readSource(spec, task, model))
}

async function readSource(spec: FileSpec, task: TaskSpec, model: ModelInputs): Promise<DatasetParts> {
  switch (spec.kind) {
    case 'glyphs':
      if (task.kind !== 'image-classification') throw wrongTask(spec, task, 'image-classification')
      return readGlyphs(spec, task, model)
    case 'idx':
      if (task.kind !== 'image-classification') throw wrongTask(spec, task, 'image-classification')
      return readIdxPair(spec, task, model)
    case 'text':
      if (task.kind !== 'causal-lm') throw wrongTask(spec, task, 'causal-lm')
      return readTextFile(spec, model)
    case 'jsonl':
      if (task.kind === 'image-classification') throw wrongTask(spec, task, 'causal-lm or sequence-classification')
      return readJsonl(spec, task, model)
  }
}

/** One collator serves all parts, so they must be of one kind and, for text, of one sequence length. */
async function readUnion(spec: UnionSpec, task: TaskSpec, model: ModelInputs): Promise<DatasetParts> {
  const layouts = new Set(
    spec.parts.map((part) => `${part.kind} ${'sequenceLength' in part ? part.sequenceLength : ''}`)
  )
  const [first, ...others] = await Promise.all(spec.parts.map((part) => readSource(part, task, model)))
  if (first === undefined || layouts.size > 1)
    throw new PeertuneError('data/mixed-union', 'a union takes sources of one kind and sequence length', {
      facts: { got: [...layouts] }
    })
  const training = [first, ...others].flatMap((part) => part.training)
  return { training, heldOut: first.heldOut, seed: spec.seed, collate: first.collate }
}

const wrongTask = (spec: FileSpec, task: TaskSpec, expected: string): PeertuneError =>
  new PeertuneError('data/wrong-task', `data of kind ${spec.kind} cannot feed the task ${task.kind}`, {
    facts: { kind: spec.kind, expected, got: task.kind },
    hint: `${spec.kind} data is for ${expected}`
  })
