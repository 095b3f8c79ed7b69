import { PeertuneError } from '../base/errors.js'
import type { TaskSpec } from '../base/federation.js'
import type { Dataset } from './batch.js'
import type { ModelInputs } from './collate.js'
import { openGlyphs } from './glyphs.js'
import { openIdx } from './idx.js'
import { openJsonl } from './jsonl.js'
import type { DataSpec } from './spec.js'
import { openText } from './text.js'

/**
 * Opens a peer's private data for a task and a model. Everything that can be wrong with it is said here, before the
 * first step: `data/wrong-task`, `data/model-mismatch`, `data/no-file`, `data/empty`, `data/bad-row`, ...
 */
export async function openDataset(spec: DataSpec, task: TaskSpec, model: ModelInputs): Promise<Dataset> {
  switch (spec.kind) {
    case 'glyphs':
      if (task.kind !== 'image-classification') throw wrongTask(spec, task, 'image-classification')
      return openGlyphs(spec, task, model)
    case 'idx':
      if (task.kind !== 'image-classification') throw wrongTask(spec, task, 'image-classification')
      return openIdx(spec, task, model)
    case 'text':
      if (task.kind !== 'causal-lm') throw wrongTask(spec, task, 'causal-lm')
      return openText(spec, model)
    case 'jsonl':
      if (task.kind === 'image-classification') throw wrongTask(spec, task, 'causal-lm or sequence-classification')
      return openJsonl(spec, task, model)
  }
}

const wrongTask = (spec: DataSpec, task: TaskSpec, expected: string): PeertuneError =>
  new PeertuneError('data/wrong-task', `data of kind ${spec.kind} cannot feed the task ${task.kind}`, {
    facts: { kind: spec.kind, expected, got: task.kind },
    hint: `${spec.kind} data is for ${expected}`
  })
