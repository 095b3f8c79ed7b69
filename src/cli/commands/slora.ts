import { PeertuneError } from '../../base/errors.js'
import { sha256Hex } from '../../base/bytes.js'
import { loadBaseModel } from '../../node/model/program.js'
import { secondStage } from '../../node/trained/slora.js'
import { readAdapterFolder, writeAdapter } from '../../peft/files/adapter-format.js'
import { openMasks } from '../../peft/files/mask-file.js'
import type { Output } from '../output.js'

export interface SloraOptions {
  readonly model: string
  readonly out: string
  readonly rank: string
  readonly alpha: string
  readonly maskFile?: string
  readonly json?: boolean
}

/**
 * Writes an adapter folder for the second stage of SLoRA to start from; `peertune import` then prints its manifest.
 * Throws `config/not-sparse` and what reading the folder and the model throws.
 */
export async function slora(folder: string, options: SloraOptions, out: Output): Promise<void> {
  const first = await readAdapterFolder(folder)
  const { base } = await loadBaseModel(options.model)
  const masks = await openMasks(options.maskFile)
  const [rank, alpha] = [positive(options.rank, '--rank'), positive(options.alpha, '--alpha')]
  if (!Number.isInteger(rank)) throw wrongNumber('--rank', options.rank)
  const { plan, tensors, kept } = secondStage(first, { ...base, masks }, { rank, alpha })
  await writeAdapter(options.out, { plan, tensors })
  const sha256 = sha256Hex((await readAdapterFolder(options.out)).bytes)
  if (options.json) return out.json({ folder: options.out, sha256, kept: Object.fromEntries(kept) })
  for (const [path, share] of kept) out.line(`${path}: ${(100 * share).toFixed(1)} % of its change is in rank ${rank}`)
  out.line(options.out)
  out.line(`startFrom: { sha256: ${sha256} }`)
}

function positive(text: string, flag: string): number {
  const value = Number(text)
  if (Number.isFinite(value) && value > 0) return value
  throw wrongNumber(flag, text)
}

const wrongNumber = (flag: string, got: string): PeertuneError =>
  new PeertuneError('config/wrong-number', `${flag}: expected a positive number, got ${got}`, { facts: { got } })
