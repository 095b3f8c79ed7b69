import { PeertuneError } from '../../base/errors.js'
import { quantiseModel } from '../../node/model/quantise-model.js'
import type { Output } from '../output.js'

export interface QuantizeOptions {
  readonly bits: string
  readonly block: string
  readonly out: string
  readonly keep?: readonly string[]
  readonly json?: boolean
}

const BLOCK_SIZES = [16, 32, 64, 128, 256]
const MEGABYTE = 2 ** 20

/** Writes a model with int4 or int8 linear layers for adapters to be trained on. */
export async function quantize(modelPath: string, options: QuantizeOptions, out: Output): Promise<void> {
  const bits = oneOf('--bits', options.bits, [4, 8] as const)
  const blockSize = oneOf('--block', options.block, BLOCK_SIZES)
  const keep = options.keep === undefined ? {} : { keep: options.keep }
  const report = await quantiseModel(modelPath, { bits, blockSize, out: options.out, ...keep })
  if (options.json) return out.json(report)
  const worst = report.layers.toSorted((a, b) => b.relativeError - a.relativeError)[0]
  out.line(`${report.out}: ${report.layers.length} linear layers in ${bits} bits`)
  out.line(`weights ${megabytes(report.bytesBefore)} before, ${megabytes(report.bytesAfter)} now`)
  if (worst !== undefined)
    out.line(`largest relative error ${(100 * worst.relativeError).toFixed(1)} % in ${worst.module}`)
}

const megabytes = (bytes: number): string => `${(bytes / MEGABYTE).toFixed(1)} MB`

function oneOf<T extends number>(flag: string, text: string, allowed: readonly T[]): T {
  const value = allowed.find((one) => String(one) === text)
  if (value !== undefined) return value
  throw new PeertuneError('config/wrong-number', `${flag}: expected ${allowed.join(' or ')}, got ${text}`)
}
