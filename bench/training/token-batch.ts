import { outputsOf, type TaskSpec } from '../../src/base/federation.js'
import { seededRng } from '../../src/base/rng.js'
import { type Batch, type BatchTensor, IGNORED_LABEL } from '../../src/data/batches/batch.js'

export interface TokenBatchSpec {
  readonly task: TaskSpec
  readonly batch: number
  readonly seq: number
  readonly vocabulary: number
}

/** Random tokens without padding: every position is work on both sides. */
export function tokenBatch(
  { task, batch, seq, vocabulary }: TokenBatchSpec,
  inputs: readonly { readonly name: string }[]
): Batch {
  const rng = seededRng('bench', 'tokens')
  const shape = [batch, seq]
  const ids = Int32Array.from({ length: batch * seq }, () => Math.floor(rng.uniform() * vocabulary))
  const fill = (name: string): Int32Array =>
    name === 'input_ids' ? ids : new Int32Array(ids.length).fill(name === 'attention_mask' ? 1 : 0)
  const tensors = inputs.map(({ name }): [string, BatchTensor] => [name, { type: 'int64', shape, data: fill(name) }])
  const next = ids.map((_, i) => ((i + 1) % seq === 0 ? IGNORED_LABEL : (ids[i + 1] as number)))
  const labels =
    task.kind === 'causal-lm'
      ? { shape, data: next }
      : { shape: [batch], data: Int32Array.from({ length: batch }, (_, i) => i % (outputsOf(task) ?? 1)) }
  return { inputs: Object.fromEntries(tensors), labels }
}
