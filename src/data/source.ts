import { PeertuneError } from '../base/errors.js'
import { predictsTokens, type TaskSpec } from '../base/federation.js'
import type { DataSummary, Dataset } from './batches/batch.js'
import type { ModelInputs } from './batches/collate.js'
import { createDataset, type DatasetParts, type Examples } from './batches/dataset.js'
import { readGlyphs } from './images/glyphs.js'
import { readIdxPair } from './images/idx.js'
import { readImages } from './images/images.js'
import { orClosed } from './formats/files.js'
import type { OpenOptions } from './formats/progress.js'
import type { DataSpec, FileSpec, UnionSpec } from './spec.js'
import { readTable } from './table.js'
import { readTensors } from './tensors.js'
import { readTextFile } from './text/text.js'

/**
 * Opens a peer's private data for a task and a model. Everything that can be wrong with it is said here, before the
 * first step: `data/wrong-task`, `data/model-mismatch`, `data/no-file`, `data/empty`, `data/bad-row`, ... Throws the reason of
 * the signal, whatever that broke off, and leaves nothing open then.
 */
export async function openDataset(
  spec: DataSpec,
  task: TaskSpec,
  model: ModelInputs,
  options: OpenOptions = {}
): Promise<Dataset> {
  const need = { task, model, options }
  const reading = spec.kind === 'union' ? readUnion(spec, need) : readSource(spec, need)
  const parts = await reading.catch((error: unknown) => {
    throw options.signal?.aborted ? options.signal.reason : error
  })
  return orClosed({ close: () => parts.close?.() }, async () => {
    options.signal?.throwIfAborted()
    return createDataset({ ...parts, summary: parts.summary ?? countsOf(spec, parts) })
  })
}

interface Need {
  readonly task: TaskSpec
  readonly model: ModelInputs
  readonly options: OpenOptions
}

const countsOf = ({ kind }: DataSpec, { training, heldOut }: DatasetParts): DataSummary => ({
  kind,
  training: training.length,
  heldOut: heldOut.length,
  skipped: 0
})

async function readSource(spec: FileSpec, { task, model, options }: Need): Promise<DatasetParts> {
  switch (spec.kind) {
    case 'glyphs':
      if (task.kind !== 'image-classification') throw wrongTask(spec, task, 'image-classification')
      return readGlyphs(spec, task, model)
    case 'idx':
      if (task.kind !== 'image-classification') throw wrongTask(spec, task, 'image-classification')
      return readIdxPair(spec, task, model, options)
    case 'text':
      if (task.kind !== 'causal-lm') throw wrongTask(spec, task, 'causal-lm')
      return readTextFile(spec, model, options)
    case 'images':
      if (task.kind !== 'image-classification') throw wrongTask(spec, task, 'image-classification')
      return readImages(spec, task, model, options)
    case 'tensors':
      if (predictsTokens(task.kind)) throw wrongTask(spec, task, 'classification or regression')
      return readTensors(spec, task, model, options)
    case 'jsonl':
    case 'csv':
    case 'parquet':
      if (task.kind === 'image-classification') throw wrongTask(spec, task, 'every task of text')
      return readTable(spec, task, model, options)
  }
}

/** One collator serves all parts, so they must be of one kind and, for text, of one sequence length. */
async function readUnion(spec: UnionSpec, need: Need): Promise<DatasetParts> {
  const layouts = new Set(
    spec.parts.map((part) => `${part.kind} ${'sequenceLength' in part ? part.sequenceLength : ''}`)
  )
  if (layouts.size !== 1)
    throw new PeertuneError('data/mixed-union', 'a union takes sources of one kind and sequence length', {
      facts: { got: [...layouts] },
      hint: 'give all parts the same kind, and the same sequenceLength where they have one'
    })
  const all = await readAll(spec.parts, need)
  const first = all[0]!
  return {
    training: concatenated(all.map((part) => part.training)),
    heldOut: first.heldOut,
    seed: spec.seed,
    collate: first.collate,
    close: () => {
      for (const part of all) part.close?.()
    }
  }
}

/** All of the sources; the first that fails, or the signal, ends the reading of the others, and none stays open. */
async function readAll(parts: readonly FileSpec[], { options, ...need }: Need): Promise<readonly DatasetParts[]> {
  const broken = new AbortController()
  const signal = AbortSignal.any([broken.signal, ...(options.signal === undefined ? [] : [options.signal])])
  const open = parts.map((part) => readSource(part, { ...need, options: { ...options, signal } }))
  const ended = await Promise.allSettled(
    open.map((source) =>
      source.catch((error: unknown) => {
        broken.abort(error)
        throw error
      })
    )
  )
  const read = ended.flatMap((one) => (one.status === 'fulfilled' ? [one.value] : []))
  if (read.length === parts.length) return read
  for (const part of read) part.close?.()
  throw signal.reason
}

/** Several lists as one, each example made when its turn comes. */
function concatenated(parts: readonly Examples[]): Examples {
  const starts = parts.map((_, i) => parts.slice(0, i).reduce((sum, { length }) => sum + length, 0))
  return {
    length: parts.reduce((sum, { length }) => sum + length, 0),
    at(index) {
      const part = starts.findLastIndex((start, i) => index >= start && (parts[i]?.length ?? 0) > 0)
      return parts[part]?.at(index - starts[part]!)
    }
  }
}

const wrongTask = (spec: FileSpec, task: TaskSpec, expected: string): PeertuneError =>
  new PeertuneError('data/wrong-task', `data of kind ${spec.kind} cannot feed the task ${task.kind}`, {
    facts: { kind: spec.kind, expected, got: task.kind },
    hint: `${spec.kind} data is for ${expected}`
  })
