import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { PeftPlan, TaskSpec } from '../../src/base/federation.js'
import { usualSpec } from '../../src/node/method-table.js'
import { exportAdapter } from '../../src/node/export-adapter.js'
import { type AdaptedModel, loadAdaptedModel } from '../../src/node/program.js'
import { canonicalise, nameModel } from '../../src/onnx/canonicalise.js'
import { readModel } from '../../src/onnx/read.js'
import { createSession, type SessionTensor } from '../../src/onnx/session.js'
import { linearModules } from '../../src/peft/target.js'
import { floatsOf, intsOf, readSafetensors } from '../../src/tensor/safetensors.js'
import { viewOf } from '../../src/tensor/schema.js'

/** A Python with torch, transformers and PEFT 0.21; Python is a check here, never a requirement. */
const python = process.env.PEERTUNE_PYTHON
const script = fileURLToPath(new URL('load_adapter.py', import.meta.url))
/** Models with their PyTorch weights beside them: not in the repository. */
const cases = fileURLToPath(new URL('../../../shared/conformance', import.meta.url))

const METHODS = ['lora', 'rslora', 'dora', 'ffa-lora', 'lora-xs', 'ia3', 'layernorm', 'prompt'] as const
const classify: TaskSpec = { kind: 'sequence-classification', labels: ['0', '1', '2'] }
const CASES: readonly (readonly [string, TaskSpec])[] = [
  ['bert-torchscript', classify],
  ['gpt2-dynamo', { kind: 'causal-lm' }],
  ['llama-dynamo', { kind: 'causal-lm' }]
]

let folder: string
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'peertune-interop-'))
})
afterAll(() => rm(folder, { recursive: true }))

async function inputsOf(directory: string): Promise<Record<string, SessionTensor>> {
  const path = join(directory, 'inputs.safetensors')
  const entries = [...readSafetensors(await readFile(path), path)].filter(([name]) => name !== 'labels')
  return Object.fromEntries(
    entries.map(([name, entry]) => [name, { type: 'int64', shape: entry.shape, data: intsOf(entry, name) } as const])
  )
}

/** The methods with a manifest's defaults, and variants that only an export brings into PEFT's form. */
async function plansOf(modelPath: string, task: TaskSpec): Promise<Record<string, PeftPlan>> {
  const linears = linearModules(nameModel(await readModel(modelPath)).weights)
  const usual = (method: Parameters<typeof usualSpec>[0]) => ({
    ...usualSpec(method, linears),
    ...(task === classify ? { head: ['classifier'] } : {}),
    ...('rank' in usualSpec(method, linears) ? { rank: 4, alpha: 6 } : {})
  })
  const lora = usual('lora') as Extract<PeftPlan, { method: 'lora' }>
  return {
    ...Object.fromEntries(METHODS.map((method) => [method, usual(method) as PeftPlan])),
    ravan: { ...usual('ravan'), heads: 2 } as PeftPlan,
    'lora-from-svd': { ...lora, start: 'svd' },
    'lora-ranks': { ...lora, ranks: { 'layers.1': 2, 'layer.1': 2, 'h.1': 2 } },
    ...(task === classify ? {} : { prefix: usual('prefix') as PeftPlan })
  }
}

async function ownLogits({ model, method, externalDir }: AdaptedModel, parameters: Float32Array, directory: string) {
  const inputs = await inputsOf(directory)
  const shapes = Object.fromEntries(Object.entries(inputs).map(([name, { shape }]) => [name, shape]))
  const graph = method.rewrite(await canonicalise(model, method.graphInputs(shapes)))
  const session = await createSession(graph, { externalDir, optimization: 'disabled' })
  const feeds = method.schema.entries.map((entry) => {
    const data = viewOf(parameters, entry)
    return [entry.name, { type: 'float32', shape: entry.shape, data } as const] as const
  })
  const { logits } = await session.run({ ...inputs, ...Object.fromEntries(feeds) })
  await session.release()
  return { logits: logits as SessionTensor, mask: inputs.attention_mask?.data }
}

const because = python === undefined ? ' (needs PEERTUNE_PYTHON)' : ' (needs ../shared/conformance)'

describe.skipIf(python === undefined || !existsSync(cases))(`adapters that PEFT loads${because}`, () => {
  it.each(CASES)('%s: the same logits, every method', { timeout: 300_000 }, async (name, task) => {
    const directory = join(cases, name)
    const modelPath = join(directory, 'model.onnx')
    const own = new Map<string, Awaited<ReturnType<typeof ownLogits>>>()
    for (const [variant, peft] of Object.entries(await plansOf(modelPath, task))) {
      const adapted = await loadAdaptedModel({ modelPath, task, peft }, { weightsDir: folder })
      const { schema, initial } = adapted.method
      const parameters = initial.map((value, index) => value + 0.1 * Math.sin(1.3 * index))
      own.set(variant, await ownLogits(adapted, parameters, directory))
      const out = join(folder, name, variant)
      await exportAdapter(out, { modelPath, task, peft, schema, parameters }, { weightsDir: folder })
    }
    const adapters = [...own.keys()].map((variant) => join(folder, name, variant))
    await promisify(execFile)(python as string, [script, directory, folder, ...adapters])
    for (const [variant, { logits, mask }] of own) {
      const path = join(folder, `${variant}.safetensors`)
      const entry = readSafetensors(await readFile(path), path).get('logits')
      if (entry === undefined) throw new Error(`no logits of ${variant}`)
      expect(entry.shape, variant).toEqual(logits.shape)
      const theirs = floatsOf(entry, variant)
      const classes = logits.shape.at(-1) as number
      const counts = (index: number) => logits.shape.length === 2 || mask?.[Math.floor(index / classes)] === 1
      const worst = Array.from(logits.data).reduce(
        (max, value, index) => (counts(index) ? Math.max(max, Math.abs(value - (theirs[index] as number))) : max),
        0
      )
      expect(worst, variant).toBeLessThan(1e-4)
    }
  })
})
