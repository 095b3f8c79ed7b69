import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { describe, expect, it } from 'vitest'
import type { PeftSpec } from '../../src/base/peft-spec.js'
import { generate } from '../../src/cli/commands/generate.js'
import { createOutput } from '../../src/cli/output.js'
import { exportAdapter } from '../../src/node/trained/export-adapter.js'
import { loadAdaptedModel } from '../../src/node/model/program.js'
import { hasShared, SHARED } from '../data/fixtures.js'
import { temporaryFolder } from '../node/folder.js'

const python = process.env.PEERTUNE_PYTHON
const script = fileURLToPath(new URL('generate.py', import.meta.url))
const model = join(SHARED, 'models/stories260k')
const task = { kind: 'causal-lm' } as const
const folder = await temporaryFolder()

const common = { head: [], seed: 'a seed' }
const targets = ['q_proj', 'v_proj']
const PLANS: Readonly<Record<string, PeftSpec>> = {
  lora: { method: 'lora', rank: 4, alpha: 8, targets, ...common },
  dora: { method: 'dora', rank: 4, alpha: 8, targets, ...common },
  ia3: { method: 'ia3', targets: ['k_proj', 'v_proj', 'down_proj'], feedforward: ['down_proj'], ...common },
  prompt: { method: 'prompt', tokens: 5, ...common },
  prefix: { method: 'prefix', tokens: 5, ...common }
}
const PROMPTS = [
  ['Once upon a time', 40],
  ['The dog said', 24]
] as const

interface Continuation {
  readonly prompt: string
  readonly ids: readonly number[]
}

async function generated(adapter: string, prompt: string, tokens: number): Promise<Continuation> {
  const sampling = { temperature: '0', topK: '0', topP: '1', seed: '' }
  let text = ''
  const out = createOutput((more) => (text += more))
  const options = { model, adapter, prompt, maxTokens: String(tokens), json: true, ...sampling }
  await generate(options, { XDG_CACHE_HOME: folder.root }, out)
  return JSON.parse(text) as Continuation
}

describe.skipIf(python === undefined || !hasShared('models/stories260k'))(
  'generate with an adapter (needs PEERTUNE_PYTHON and ../shared/models/stories260k)',
  () => {
    it('goes on token for token as PEFT does', { timeout: 300_000 }, async () => {
      const modelPath = join(model, 'model.onnx')
      for (const [name, peft] of Object.entries(PLANS)) {
        const adapted = await loadAdaptedModel({ modelPath, task, peft }, { weightsDir: folder.root })
        const { schema, initial } = adapted.method
        const parameters = initial.map((value, index) => value + 0.05 * Math.sin(1.3 * index))
        await exportAdapter(folder.at(name), { modelPath, task, peft, schema, parameters }, { weightsDir: folder.root })
      }
      const adapters = Object.keys(PLANS).map((name) => folder.at(name))
      const args = [script, model, JSON.stringify(PROMPTS), ...adapters]
      const { stdout } = await promisify(execFile)(python as string, args)
      const expected = JSON.parse(stdout) as Record<string, Continuation[]>
      const seen = new Set<string>()
      for (const name of Object.keys(PLANS))
        for (const [index, [prompt, tokens]] of PROMPTS.entries()) {
          const { ids } = await generated(folder.at(name), prompt, tokens)
          expect(ids, `${name}: ${prompt}`).toEqual(expected[name]?.[index]?.ids)
          seen.add(ids.join())
        }
      // The adapters do something, each something else.
      expect(seen.size).toBeGreaterThan(PROMPTS.length + 2)
    })
  }
)
