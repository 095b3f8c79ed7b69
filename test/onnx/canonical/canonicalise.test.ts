import { readFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import { canonicalise, nameModel } from '../../../src/onnx/canonical/canonicalise.js'
import { readModel } from '../../../src/onnx/file/read.js'
import { createSession, type SessionTensor } from '../../../src/onnx/runtime/session.js'
import { floatsOf, intsOf, readSafetensors } from '../../../src/tensor/safetensors.js'
import { evaluate, opsOf } from '../small-graph.js'

const golden = (path: string): string => fileURLToPath(new URL(`../../golden/conformance/${path}`, import.meta.url))

async function batchOf(name: string): Promise<Record<string, SessionTensor>> {
  const tensors = readSafetensors(await readFile(golden(`${name}/inputs.safetensors`)))
  tensors.delete('labels')
  return Object.fromEntries(
    Array.from(tensors, ([input, entry]) => [
      input,
      entry.type === 'F32'
        ? { type: 'float32', shape: entry.shape, data: Float32Array.from(floatsOf(entry)) }
        : { type: 'int64', shape: entry.shape, data: intsOf(entry) }
    ])
  )
}

describe.each(['bert-torchscript', 'gpt2-dynamo', 'llama-dynamo', 'vit-torchscript'])(
  'the canonical graph of %s',
  (name) => {
    it('computes what the exported file computes', async () => {
      const feeds = await batchOf(name)
      const session = await createSession(await readFile(golden(`${name}/model.onnx`)))
      const reference = (await session.run(feeds)).logits
      await session.release()
      const shapes = Object.fromEntries(Object.entries(feeds).map(([input, { shape }]) => [input, shape]))
      const graph = await canonicalise(nameModel(await readModel(golden(`${name}/model.onnx`))), shapes)
      const { logits } = await evaluate(graph, feeds)
      const scale = Math.max(...Array.from(reference?.data ?? [], Math.abs))
      const errors = Array.from(logits?.data ?? [], (value, i) => Math.abs(value - (reference?.data[i] as number)))
      expect(errors).toHaveLength(reference?.data.length as number)
      expect(Math.max(...errors) / scale).toBeLessThan(2e-6)
    })

    it('has static shapes and none of the exporter’s shape arithmetic', async () => {
      const feeds = await batchOf(name)
      const shapes = Object.fromEntries(Object.entries(feeds).map(([input, { shape }]) => [input, shape]))
      const named = nameModel(await readModel(golden(`${name}/model.onnx`)))
      const graph = await canonicalise(named, shapes)
      const left = opsOf(graph).filter((op) =>
        ['Shape', 'Range', 'Constant', 'Identity', 'ConstantOfShape', 'Slice'].includes(op)
      )
      expect(left).toEqual([])
      for (const { outputs } of graph.nodes)
        for (const output of outputs) expect(graph.values.get(output)?.shape.every(Number.isInteger)).toBe(true)
      const linears = [...named.weights.values()].filter(({ linear }) => linear !== undefined)
      const gemms = graph.nodes.filter(({ op }) => op === 'Gemm').map(({ inputs }) => inputs[1])
      for (const weight of linears) expect(gemms).toContain(weight.name)
    })
  }
)

it('a batch that the model does not take is refused by input name', async () => {
  const named = nameModel(await readModel(golden('vit-torchscript/model.onnx')))
  await expect(canonicalise(named, { pixel_values: [2, 3, 16, 24] })).rejects.toMatchObject({
    code: 'onnx/input-shape',
    facts: { input: 'pixel_values' }
  })
  await expect(canonicalise(named, {})).rejects.toMatchObject({ code: 'onnx/input-shape' })
})
