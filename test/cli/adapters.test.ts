import { existsSync } from 'node:fs'
import { mkdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import { sha256Hex } from '../../src/base/bytes.js'
import { federationHash } from '../../src/base/federation.js'
import { silentLogger } from '../../src/base/log.js'
import { createFileStore } from '../../src/checkpoint/file-store.js'
import { evaluate } from '../../src/cli/commands/eval.js'
import { exportTrained } from '../../src/cli/commands/export.js'
import { importAdapter } from '../../src/cli/commands/import.js'
import { methods } from '../../src/cli/commands/methods.js'
import { slora } from '../../src/cli/commands/slora.js'
import { createOutput } from '../../src/cli/output.js'
import { resolveConfig } from '../../src/node/config/config.js'
import { exportAdapter } from '../../src/node/trained/export-adapter.js'
import { readManifest } from '../../src/node/config/manifest.js'
import { modelSha256 } from '../../src/node/config/model-hash.js'
import { openLocalTrainer } from '../../src/node/model/open-trainer.js'
import { loadAdaptedModel } from '../../src/node/model/program.js'
import { withCommonStart } from '../../src/node/model/start-from.js'
import { writeNodeRecord } from '../../src/node/trained/trained.js'
import { readAdapterFolder } from '../../src/peft/files/adapter-format.js'
import { temporaryFolder } from '../node/folder.js'

const golden = fileURLToPath(new URL('../golden/conformance', import.meta.url))
const glyphs = fileURLToPath(new URL('../../models/glyphs/model.onnx', import.meta.url))
const folder = await temporaryFolder()

/** What a command prints. */
async function printed(command: (out: ReturnType<typeof createOutput>) => Promise<void>): Promise<string> {
  let text = ''
  await command(createOutput((more) => (text += more)))
  return text
}

describe('peertune methods', () => {
  it('lists every method with its family and how it mixes', async () => {
    const text = await printed((out) => methods({}, out))
    expect(text).toMatch(/^lora +reparameterized +cross term +LORA$/m)
    expect(text).toMatch(/^lora, share: fedsa-lora +reparameterized +exact, A only +LORA$/m)
    expect(text).toMatch(/^lora, alternate +reparameterized +cross term of one factor +LORA$/m)
    expect(text).toMatch(/^bottleneck +additive +cross term +-$/m)
    expect(text).toMatch(/^sparse +selective +exact +-$/m)
  })

  it('counts the parameters on a model, or says why it cannot have the method', async () => {
    const model = join(golden, 'llama-dynamo/model.onnx')
    const rows = JSON.parse(await printed((out) => methods({ model, json: true }, out))) as Record<string, unknown>[]
    const of = (method: string) => rows.find((row) => row.method === method)
    // Rank 8 on q (48 to 48) and v (48 to 24) of two layers.
    expect(of('lora')).toMatchObject({ parameters: 2 * 8 * (48 + 48 + 48 + 24), targets: ['q_proj', 'v_proj'] })
    expect(rows.find(({ variant }) => variant === 'mask: fisher')).toMatchObject({
      parameters: of('sparse')?.parameters
    })
    expect(of('prefix')).toMatchObject({ parameters: 16 * 2 * 2 * 24 })
    expect(of('prompt')).toMatchObject({ parameters: 16 * 48 })
    expect(of('full')).toMatchObject({ parameters: 67_824 })
    expect(of('bitfit')).toMatchObject({ unfit: 'bitfit: the model has no bias' })
  })
})

describe('peertune import', () => {
  const adapter = join(golden, 'bert-torchscript/dora/adapter')
  const model = join(golden, 'bert-torchscript/model.onnx')
  const options = { model, name: 'letters', task: 'sequence-classification', labels: ['a', 'b', 'c'] }

  it('prints a manifest that starts from the adapter, and every peer must have that one', async () => {
    const file = await folder.write('imported.yaml', await printed((out) => importAdapter(adapter, options, out)))
    const manifest = await readManifest(file)
    expect(manifest.peft).toMatchObject({ method: 'dora', rank: 4, alpha: 8, head: ['classifier'] })
    const { bytes } = await readAdapterFolder(adapter)
    expect(manifest.startFrom).toEqual({ sha256: sha256Hex(bytes) })

    const spec = { modelPath: model, task: manifest.task, peft: manifest.peft, device: 'cpu', threads: 1 } as const
    const trainer = await openLocalTrainer(spec, { weightsDir: folder.root })
    try {
      const started = await withCommonStart(trainer, manifest, { startFrom: adapter })
      expect(started.description.schema).toBe(trainer.description.schema)
      expect(started.description.initial).not.toEqual(trainer.description.initial)
      await expect(withCommonStart(trainer, manifest, { startFrom: null })).rejects.toMatchObject({
        code: 'config/no-start'
      })
      const other = join(golden, 'bert-torchscript/lora/adapter')
      await expect(withCommonStart(trainer, manifest, { startFrom: other })).rejects.toMatchObject({
        code: 'config/wrong-start'
      })
      await expect(withCommonStart(trainer, {}, { startFrom: adapter })).rejects.toMatchObject({
        code: 'config/wrong-start'
      })
      expect(await withCommonStart(trainer, {}, { startFrom: null })).toBe(trainer)
    } finally {
      await trainer.close()
    }
  })

  it('refuses an adapter for another base', async () => {
    const llama = join(golden, 'llama-dynamo/dora/adapter')
    await expect(printed((out) => importAdapter(llama, options, out))).rejects.toMatchObject({
      code: 'config/no-such-module'
    })
  })
})

describe('peertune slora', () => {
  const model = join(golden, 'llama-dynamo/model.onnx')

  it('makes a start of what a sparse method has learned, and import a manifest of it', async () => {
    const peft = { method: 'sparse', targets: ['q_proj'], density: 0.05, mask: 'random', head: [], seed: 's' } as const
    const task = { kind: 'causal-lm' } as const
    const { method } = await loadAdaptedModel({ modelPath: model, task, peft })
    const { schema, initial } = method
    const first = join(folder.root, 'first')
    const parameters = initial.map((_, i) => Math.sin(i))
    expect(await exportAdapter(first, { modelPath: model, task, peft, schema, parameters })).toBe(false)

    const start = join(folder.root, 'second')
    const options = { model, out: start, rank: '6', alpha: '12', json: true }
    const { kept, sha256 } = JSON.parse(await printed((out) => slora(first, options, out))) as {
      kept: Record<string, number>
      sha256: string
    }
    const [share = 0] = Object.values(kept)
    // Of a random sparse matrix with 48 singular values, six hold more than six of 48 parts and less than all.
    expect(share).toBeGreaterThan(6 / 48)
    expect(share).toBeLessThan(0.9)
    const naming = { model, name: 'second-stage', task: 'causal-lm' }
    const file = await folder.write('second.yaml', await printed((out) => importAdapter(start, naming, out)))
    const manifest = await readManifest(file)
    expect(manifest.peft).toMatchObject({ method: 'lora', rank: 6, alpha: 12 })
    expect(manifest.startFrom).toEqual({ sha256 })
    await expect(printed((out) => slora(start, options, out))).rejects.toMatchObject({ code: 'config/not-sparse' })
    await expect(printed((out) => slora(first, { ...options, rank: '1.5' }, out))).rejects.toMatchObject({
      code: 'config/wrong-number'
    })
  })
})

// The base model is made by `npm run pretrain`; a checkout without it has nothing to evaluate.
describe.skipIf(!existsSync(glyphs))('what a node has learned', () => {
  it('is exported with a model card and evaluated again', async () => {
    const labels = ['A', 'K', 'Q']
    const federation = await folder.write(
      'federation.yaml',
      `peertune: 1
name: three-letters
model: { sha256: ${await modelSha256(glyphs)} }
task: { kind: image-classification, labels: [${labels}] }
peft: { method: lora-xs, rank: 4, targets: [query, value], head: [classifier], seed: spring }
`
    )
    const configFile = await folder.write(
      'node.yaml',
      `federation: ${federation}
model: ${glyphs}
dataDir: data
data: { kind: glyphs, classes: [${labels}], samples: 60, testSamples: 30 }
device: cpu
threads: 1
`
    )
    const { config } = await resolveConfig(configFile)
    const manifest = await readManifest(federation)
    const spec = { modelPath: glyphs, task: manifest.task, peft: manifest.peft, device: 'cpu', threads: 1 } as const
    const trainer = await openLocalTrainer(spec)
    const { schema, initial } = trainer.description
    await trainer.close()
    const parameters = initial.map((value, index) => value + 0.1 * Math.sin(index))
    const zeros = new Float32Array(schema.size)
    await mkdir(config.dataDir)
    await writeNodeRecord(config.dataDir, { config, manifest })
    await createFileStore({ directory: join(config.dataDir, 'checkpoints'), log: silentLogger }).save({
      federationHash: federationHash(manifest),
      schemaHash: schema.hash,
      step: 70,
      exchanges: 11,
      phase: 'done',
      parameters,
      adam: { m: zeros, v: zeros, step: 70 },
      rng: {},
      cursor: { epoch: 0, position: 0 },
      journal: { inDoubt: [], accepted: [] },
      inDoubt: {},
      bytesSent: 1234,
      bytesReceived: 4321,
      savedAtMs: 0
    })
    const out = join(folder.root, 'exported')
    const merged = join(folder.root, 'merged.onnx')
    const options = { dataDir: config.dataDir, out, merged, evaluation: true }
    expect(await printed((to) => exportTrained(options, to))).toBe(`${out}\n${merged}\n`)
    const written = await readAdapterFolder(out)
    expect(written.plan).toMatchObject({ method: 'lora', rank: 4, alpha: 16, head: ['classifier'] })
    const card = await readFile(join(out, 'README.md'), 'utf8')
    expect(card).toContain('library_name: peft')
    expect(card).toContain(`| federation | three-letters (\`${federationHash(manifest)}\`) |`)
    expect(card).toContain('| exchanges with other peers | 11 |')
    expect(card).toMatch(/\| accuracy there \| [0-9.]+ % of 30 labels \|/)

    const evaluated = async (adapter?: string) =>
      JSON.parse(
        await printed((to) => evaluate({ config: configFile, json: true, ...(adapter && { adapter }) }, {}, to))
      ) as { of: string; loss: number; count: number }
    const own = await evaluated()
    const asLora = await evaluated(out)
    expect(own).toMatchObject({ of: 'the checkpoint of step 70', count: 30 })
    expect(asLora.of).toBe('the adapter')
    expect(asLora.loss).toBeCloseTo(own.loss, 5)
  })
})
