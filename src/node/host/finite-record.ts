import { join } from 'node:path'
import { refuseNonFinite, type StoredWeight } from '../../onnx/file/check-weights.js'
import { onceOnMachine } from './once-on-machine.js'

export interface CheckedModel {
  /** SHA-256 (hex) of the model whose weights these are. */
  readonly sha256: string
  /** Where what is known of models of this machine is kept. */
  readonly weightsDir: string
  readonly externalDir: string
}

/** Bytes. Less is read in a few milliseconds. */
const WORTH_REMEMBERING_BYTES = 32 * 2 ** 20

/**
 * Throws `onnx/not-finite` as `refuseNonFinite` does. Of a big model whose weights are all finite an empty file is left,
 * named by the model's hash: they are looked at once on a machine, not at every start.
 */
export async function refuseNonFiniteOnce(
  weights: Iterable<StoredWeight>,
  { sha256, weightsDir, externalDir }: CheckedModel
): Promise<void> {
  const all = [...weights]
  const bytes = all.reduce((sum, { initializer: { data } }) => sum + (data.kind === 'inline' ? 0 : data.length), 0)
  const record = bytes < WORTH_REMEMBERING_BYTES ? undefined : join(weightsDir, `${sha256}.finite`)
  const check = async () => {
    await refuseNonFinite(all, externalDir)
    return true
  }
  await (record === undefined ? check() : onceOnMachine(record, check))
}
