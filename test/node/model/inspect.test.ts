import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import { systemClock } from '../../../src/base/clock.js'
import { entryUrl } from '../../../src/base/entry.js'
import { silentLogger } from '../../../src/base/log.js'
import { inspectText } from '../../../src/cli/commands/inspect.js'
import { inspectModel } from '../../../src/node/model/inspect.js'
import { familyOf } from '../../../src/node/model/model-family.js'
import { parseModel } from '../../../src/onnx/file/read.js'
import { writeModel } from '../../../src/onnx/file/write.js'
import { spawnTrainer } from '../../../src/train/process/child-trainer.js'
import { temporaryFolder } from '../folder.js'

const golden = fileURLToPath(new URL('../../golden/conformance', import.meta.url))
const folder = await temporaryFolder()
const weightsDir = folder.root
const modelPath = (name: string): string => join(golden, name, 'model.onnx')
const configOf = async (name: string) =>
  JSON.parse(await readFile(join(golden, name, 'config.json'), 'utf8')) as Record<string, number>

describe('inspecting a model', () => {
  it.each([
    ['bert-torchscript', 'BERT', 'sequence-classification'],
    ['gpt2-dynamo', 'GPT-2', 'causal-lm'],
    ['llama-dynamo', 'Llama, Mistral or Qwen2', 'causal-lm'],
    ['vit-torchscript', 'ViT', 'image-classification'],
    ['whisper-torchscript-17', 'Whisper', 'sequence-classification'],
    ['gemma2-torchscript-17', 'Gemma', 'causal-lm']
  ])('%s is a %s', async (name, family, task) => {
    const report = await inspectModel(modelPath(name), { weightsDir, seq: 12 })
    expect(report).toMatchObject({ family, task, trainable: { blocked: [] } })
    expect(report.trainable.tensors).toBe(report.trainable.of)
    expect(report.memory).toHaveProperty('totalMb')
    expect(inspectText(report).join('\n')).toContain(`family      ${family}`)
  })

  it('counts the parameters that the formulas give', async () => {
    const config = await configOf('llama-dynamo')
    const { hidden_size: hidden = 0, num_hidden_layers: layers = 0, intermediate_size: middle = 0 } = config
    const keys = (hidden * (config.num_key_value_heads ?? 0)) / (config.num_attention_heads ?? 1)
    const { methods, modules } = await inspectModel(modelPath('llama-dynamo'), { weightsDir, seq: 12 })
    const count = (method: string) => methods.find((entry) => entry.method === method)?.parameters
    const widths = 2 * (hidden + hidden) + 2 * (hidden + keys) + 3 * (hidden + middle)
    expect(count('lora')).toBe(8 * layers * widths)
    expect(count('layernorm')).toBe((2 * layers + 1) * hidden)
    expect(count('prompt')).toBe(20 * hidden)
    expect(count('prefix')).toBe(20 * layers * 2 * keys)
    expect(methods.find(({ method }) => method === 'bitfit')?.error).toContain('no bias')
    expect(modules.find(({ pattern }) => pattern === 'model.layers.*.self_attn.k_proj')).toMatchObject({
      count: layers,
      inFeatures: hidden,
      outFeatures: keys
    })
  })

  it('names the node that gradients cannot pass', async () => {
    const model = parseModel(await readFile(modelPath('bert-torchscript')))
    const nodes = model.nodes.map((node) => (node.op === 'Erf' ? { ...node, op: 'ThresholdedRelu' } : node))
    const path = await folder.write('blocked.onnx', writeModel({ ...model, nodes }))
    const { trainable } = await inspectModel(path, { weightsDir, seq: 12 })
    const [first] = trainable.blocked
    expect(first).toMatchObject({ op: 'ThresholdedRelu', reason: expect.stringContaining('ThresholdedRelu') })
    expect(first?.module).toContain('encoder.layer.0.intermediate')
    expect(trainable.tensors).toBeGreaterThan(0)
    expect(trainable.tensors).toBeLessThan(trainable.of)
  })

  it('guesses no family where the paths say nothing', () => {
    expect(familyOf(['body.dense', 'head'])).toBeUndefined()
    expect(familyOf(['model.layers.3.self_attn.q_proj', 'model.layers.3.self_attn.q_norm'])).toBe('Qwen3')
  })

  // Resident memory of another process is read from /proc.
  it.skipIf(process.platform !== 'linux')('foresees the memory of a step', async () => {
    const [batch, seq] = [48, 96]
    const path = modelPath('llama-dynamo')
    const { memory, modules } = await inspectModel(path, { weightsDir, batch, seq })
    const targets = modules
      .flatMap(({ pattern }) => pattern.split('.').at(-1) ?? [])
      .filter((name) => name !== 'lm_head')
    const trainer = await spawnTrainer({
      entry: entryUrl('node/model/trainer-main.js'),
      clock: systemClock,
      log: silentLogger,
      spec: {
        modelPath: path,
        task: { kind: 'causal-lm' },
        peft: { method: 'lora', rank: 8, alpha: 16, targets, head: [], seed: 'memory' },
        device: 'cpu',
        threads: 1
      }
    })
    const ids = { type: 'int64', shape: [batch, seq], data: new Int32Array(batch * seq).fill(1) } as const
    const inputs = Object.fromEntries(trainer.description.inputs.map(({ name }) => [name, ids]))
    await trainer.step(trainer.description.initial, { inputs, labels: ids })
    const text = await readFile(`/proc/${trainer.pid}/status`, 'utf8')
    await trainer.close()
    const measuredMb = Number(/VmHWM:\s+(\d+)/.exec(text)?.[1]) / 1024
    const estimatedMb = 'totalMb' in memory ? memory.totalMb : Number.NaN
    expect(measuredMb / estimatedMb).toBeGreaterThan(0.6)
    expect(measuredMb / estimatedMb).toBeLessThan(1.5)
  })
})
