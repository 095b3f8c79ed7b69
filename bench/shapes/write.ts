import { mkdir, open, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { seededRng } from '../../src/base/rng.js'
import type { Graph } from '../../src/onnx/graph/graph.js'
import { writeModel } from '../../src/onnx/file/write.js'
import { createBuilder, type GraphBuilder, WEIGHT_FILE } from './builder.js'
import { BERT_BASE, buildBert } from './bert.js'
import { buildGpt2, GPT2_SMALL } from './gpt2.js'
import { buildLlama, LLAMA_MINI, LLAMA_1B } from './llama.js'

/** Architectures that can be measured without their weights: speed and memory do not depend on the values. */
export const SHAPES = {
  'bert-base': (b: GraphBuilder) => buildBert(b, BERT_BASE),
  'gpt2-small': (b: GraphBuilder) => buildGpt2(b, GPT2_SMALL),
  'llama-mini': (b: GraphBuilder) => buildLlama(b, LLAMA_MINI),
  'llama-1b': (b: GraphBuilder) => buildLlama(b, LLAMA_1B)
} as const satisfies Readonly<Record<string, (b: GraphBuilder) => Graph>>

export type ShapeName = keyof typeof SHAPES

/** Standard deviation of Hugging Face's initialisation; keeps activations and gradients in the range of a real model. */
const SPREAD = 0.02
/** Elements drawn once and written over and over. */
const DRAWN = 1 << 20

/** Writes `<directory>/model.onnx` and its weights, drawn from a seed, and returns the path of the model. */
export async function writeShape(name: ShapeName, directory: string): Promise<string> {
  await mkdir(directory, { recursive: true })
  const builder = createBuilder()
  const graph = SHAPES[name](builder)
  await writeWeights(join(directory, WEIGHT_FILE), builder.weightBytes())
  const path = join(directory, 'model.onnx')
  await writeFile(path, writeModel(graph))
  return path
}

async function writeWeights(path: string, size: number): Promise<void> {
  const rng = seededRng('bench', 'weights')
  const values = Float32Array.from({ length: DRAWN }, () => (2 * rng.uniform() - 1) * SPREAD * Math.sqrt(3))
  const file = await open(path, 'w')
  try {
    for (let at = 0; at < size; at += values.byteLength)
      await file.write(new Uint8Array(values.buffer, 0, Math.min(values.byteLength, size - at)))
  } finally {
    await file.close()
  }
}
