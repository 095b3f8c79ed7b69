import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { PeftPlan, TaskSpec } from '../../src/base/federation.js'
import { usualSpec } from '../../src/node/model/method-table.js'
import { exportAdapter } from '../../src/node/trained/export-adapter.js'
import { type AdaptedModel, loadAdaptedModel } from '../../src/node/model/program.js'
import { canonicalise, nameModel } from '../../src/onnx/canonical/canonicalise.js'
import { readModel } from '../../src/onnx/file/read.js'
import { createSession, type SessionTensor } from '../../src/onnx/runtime/session.js'
import { parametersFrom, readAdapterFolder } from '../../src/peft/files/adapter-format.js'
import { linearModules } from '../../src/peft/method/target.js'
import { floatsOf, intsOf, readSafetensors } from '../../src/tensor/safetensors.js'
import { viewOf } from '../../src/tensor/schema.js'

/** A Python with torch, transformers and PEFT 0.21; Python is a check here, never a requirement. */
const python = process.env.PEERTUNE_PYTHON
const script = fileURLToPath(new URL('load_adapter.py', import.meta.url))
const saving = fileURLToPath(new URL('save_adapters.py', import.meta.url))
/** Models with their PyTorch weights beside them: not in the repository. */
const cases = fileURLToPath(new URL('../../../shared/conformance', import.meta.url))

const METHODS = ['lora', 'rslora', 'dora', 'ffa-lora', 'lora-xs', 'ia3', 'layernorm', 'prompt'] as const
const classify: TaskSpec = { kind: 'sequence-classification', labels: ['0', '1', '2'] }
const vision: TaskSpec = { kind: 'image-classification', labels: ['0', '1', '2', '3', '4'] }
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
    entries.map(([name, entry]) => [
      name,
      entry.type === 'F32'
        ? ({ type: 'float32', shape: entry.shape, data: floatsOf(entry, name) as Float32Array } as const)
        : ({ type: 'int64', shape: entry.shape, data: intsOf(entry, name) } as const)
    ])
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
    'lora-shared-and-private': [lora, { ...lora, rank: 2, alpha: 5, head: [], private: true }],
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

/** Worst difference over the positions that count; where nothing is masked, all do. */
function worstOf(own: SessionTensor, theirs: ArrayLike<number>, mask: ArrayLike<number> | undefined): number {
  const classes = own.shape.at(-1) as number
  const counts = (index: number) => own.shape.length === 2 || (mask?.[Math.floor(index / classes)] ?? 1) === 1
  return Array.from(own.data).reduce(
    (max, value, index) => (counts(index) ? Math.max(max, Math.abs(value - (theirs[index] as number))) : max),
    0
  )
}

async function logitsIn(path: string) {
  const entry = readSafetensors(await readFile(path), path).get('logits')
  if (entry === undefined) throw new Error(`no logits in ${path}`)
  return { shape: entry.shape, values: floatsOf(entry, path) }
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
      const { shape, values } = await logitsIn(join(folder, `${variant}.safetensors`))
      expect(shape, variant).toEqual(logits.shape)
      expect(worstOf(logits, values, mask), variant).toBeLessThan(1e-4)
    }
  })
})

describe.skipIf(python === undefined || !existsSync(cases))(`adapters that PEFT saved${because}`, () => {
  it.each([...CASES, ['vit-torchscript', vision] as const])(
    '%s: the same logits, every method',
    { timeout: 300_000 },
    async (name, task) => {
      const directory = join(cases, name)
      const out = join(folder, 'saved', name)
      const { stdout } = await promisify(execFile)(python as string, [saving, directory, out])
      const variants = stdout.trim().split('\n')
      expect(variants.length).toBeGreaterThanOrEqual(10)
      for (const variant of variants) {
        const { plan, tensors } = await readAdapterFolder(join(out, variant))
        const spec = { modelPath: join(directory, 'model.onnx'), task, peft: plan }
        const adapted = await loadAdaptedModel(spec, { weightsDir: folder })
        const { logits, mask } = await ownLogits(adapted, parametersFrom(tensors, adapted.method.schema), directory)
        const { shape, values } = await logitsIn(join(out, variant, 'expected.safetensors'))
        expect(shape, variant).toEqual(logits.shape)
        expect(worstOf(logits, values, mask), variant).toBeLessThan(1e-4)
      }
    }
  )
})
