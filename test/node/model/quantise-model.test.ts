import { existsSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import type { Batch, BatchTensor } from '../../../src/data/batches/batch.js'
import { openLocalTrainer } from '../../../src/node/model/open-trainer.js'
import { loadBaseModel } from '../../../src/node/model/program.js'
import { quantiseModel } from '../../../src/node/model/quantise-model.js'
import { adamw, createAdamW } from '../../../src/train/optimiser/adamw.js'
import { canonicalise, nameModel } from '../../../src/onnx/canonical/canonicalise.js'
import type { Initializer } from '../../../src/onnx/graph/graph.js'
import { readModel } from '../../../src/onnx/file/read.js'
import { writeModel } from '../../../src/onnx/file/write.js'
import { temporaryFolder } from '../folder.js'

const golden = fileURLToPath(new URL('../../golden/conformance', import.meta.url))
const stories = fileURLToPath(new URL('../../../../shared/models/stories260k/model.onnx', import.meta.url))
const folder = await temporaryFolder()

/** Rows that repeat a pattern, so that there is something to learn. */
function patternBatch(vocabulary: number): Batch {
  const [rows, columns] = [4, 16]
  const data = Int32Array.from(
    { length: rows * columns },
    (_, i) => 3 + (((i % columns) * 5 + (i % 3)) % (vocabulary - 4))
  )
  const tensor = (values: Int32Array): BatchTensor => ({ type: 'int64', shape: [rows, columns], data: values })
  const inputs = { input_ids: tensor(data), attention_mask: tensor(new Int32Array(data.length).fill(1)) }
  const labels = data.map((_, i) => ((i + 1) % columns === 0 ? -100 : (data[i + 1] as number)))
  return { inputs, labels: { shape: [rows, columns], data: labels } }
}

async function learn(modelPath: string, vocabulary: number, steps: number): Promise<number[]> {
  const peft = { method: 'lora', rank: 4, alpha: 8, targets: ['q_proj', 'down_proj'], head: [], seed: 'q' } as const
  const spec = { modelPath, task: { kind: 'causal-lm' }, peft, device: 'cpu', threads: 1 } as const
  const trainer = await openLocalTrainer(spec, { weightsDir: folder.root })
  const parameters = trainer.description.initial.slice()
  let state = createAdamW(parameters.length)
  const losses: number[] = []
  for (let step = 0; step < steps; step++) {
    const { loss, gradients } = await trainer.step(parameters, patternBatch(vocabulary))
    losses.push(loss)
    state = adamw(parameters, gradients, state, { learningRate: 1e-2 })
  }
  await trainer.close()
  return losses
}

describe('a quantised base', () => {
  // A model with random weights amplifies every rounding; a trained one is what quantisation is for.
  it.skipIf(!existsSync(stories)).each([
    [4, 0.25],
    [8, 0.02]
  ] as const)('of %i bits starts near the float one and learns beside it', async (bits, bound) => {
    const out = folder.at(`int${bits}.onnx`)
    const { layers, bytesAfter, bytesBefore } = await quantiseModel(stories, { bits, out, weightsDir: folder.root })
    expect(layers).toHaveLength(35)
    expect(bytesAfter).toBeLessThan((bits === 4 ? 0.4 : 0.5) * bytesBefore)
    const [float, quantised] = [await learn(stories, 512, 8), await learn(out, 512, 8)]
    expect(Math.abs((quantised[0] ?? 0) - (float[0] ?? 0))).toBeLessThan(bound)
    expect(quantised.at(-1)).toBeLessThan(0.95 * (quantised[0] ?? 0))
    expect(Math.abs((quantised.at(-1) ?? 0) - (float.at(-1) ?? 0))).toBeLessThan(bound)
  })

  it.each([
    ['mistral-dynamo-18', 'model.layers.1.self_attn.q_proj'],
    ['albert-torchscript-17', 'albert.encoder.albert_layer_groups.0.albert_layers.0.attention.query']
  ])('of %s keeps the names of an export in a wrapper, and a layer that is called again', async (name, path) => {
    const out = folder.at(`${name}.onnx`)
    await quantiseModel(join(golden, name, 'model.onnx'), { bits: 8, blockSize: 16, out, weightsDir: folder.root })
    const linears = async (file: string) =>
      [...nameModel(await readModel(file)).weights.values()].flatMap(({ name, linear }) => (linear ? name : [])).sort()
    const [before, after] = [await linears(join(golden, name, 'model.onnx')), await linears(out)]
    expect(after).toEqual(before)
    const named = nameModel(await readModel(out))
    const { nodes } = await canonicalise(
      named,
      Object.fromEntries(named.graph.inputs.map((input) => [input.name, [2, 5]]))
    )
    const uses = nodes.filter(({ op, inputs }) => op === 'Gemm' && inputs.includes(`${path}.weight`))
    expect(uses).toHaveLength(name.startsWith('albert') ? 2 : 1)
  })

  it('is refused where a file is in the way, or nothing is left to quantise', async () => {
    const source = join(golden, 'llama-dynamo', 'model.onnx')
    const out = folder.at('once.onnx')
    await quantiseModel(source, { bits: 8, out, weightsDir: folder.root })
    await expect(quantiseModel(source, { bits: 8, out })).rejects.toMatchObject({ code: 'config/file-exists' })
    const again = quantiseModel(out, { bits: 4, out: folder.at('again.onnx'), weightsDir: folder.root })
    await expect(again).rejects.toMatchObject({ code: 'config/nothing-to-quantise' })
    expect(existsSync(folder.at('again.onnx'))).toBe(false)
  })

  it('is refused where a scale is no number, by the weight that it belongs to', async () => {
    const out = folder.at('damaged.onnx')
    await quantiseModel(join(golden, 'llama-dynamo/model.onnx'), { bits: 4, out, weightsDir: folder.root })
    const graph = await readModel(out)
    const initializers = new Map(
      Array.from(graph.initializers, ([name, constant]): [string, Initializer] => {
        if (!/layers\.1\S*down_proj\S*\.scales$/.test(name) || constant.data.kind !== 'inline') return [name, constant]
        const bytes = Uint8Array.from(constant.data.bytes)
        new DataView(bytes.buffer).setFloat32(8, Number.POSITIVE_INFINITY, true)
        return [name, { ...constant, data: { kind: 'inline', bytes } }]
      })
    )
    await writeFile(out, writeModel({ ...graph, initializers }))
    await expect(loadBaseModel(out, { weightsDir: folder.root })).rejects.toMatchObject({
      code: 'onnx/not-finite',
      message: expect.stringMatching(/damaged\.onnx: weight \S*layers\.1\S*down_proj\.weight, scale: .*got Infinity/)
    })
  })
})
