import { readFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import type { Environment } from '../../../src/node/config/config.js'
import type { HubObserver } from '../../../src/node/config/model-source.js'
import { openTrainedSimulation } from '../../../src/sim/workload/trained-simulation.js'
import { readYamlFile } from '../../../src/node/host/yaml-file.js'
import { runScenario } from '../../../src/sim/run.js'
import { readScenario, type Scenario } from '../../../src/sim/world/scenario.js'
import { startMirror } from '../../hub/mirror.js'
import { temporaryFolder } from '../../node/folder.js'

const path = (name: string) => fileURLToPath(new URL(`../../../${name}`, import.meta.url))
const folder = await temporaryFolder()

/** Says nothing of what comes from the hub. */
const observer: HubObserver = { resolved: () => undefined, fallback: () => undefined, progress: () => undefined }

const open = (section: unknown, peers = 2, env: Environment = { HF_HUB_OFFLINE: '1' }) => {
  const file = path('examples/scenarios/letters.yaml')
  const origin = (field: readonly (string | number)[]) => ['training', ...field].join('.')
  return openTrainedSimulation({ section, file, origin, peers, sources: { env, observer } })
}

describe('a trained simulation', () => {
  it('of the letters that ship teaches three peers more than chance after a few steps', async () => {
    const { value } = await readYamlFile(path('examples/scenarios/letters.yaml'))
    const { mixing, ...scenario } = readScenario(value) as Scenario
    const short = { ...scenario, peers: 3, durationMs: 20_000, measureMs: 30_000, mixing: { ...mixing, totalSteps: 8 } }
    const training = await open(scenario.training, short.peers)
    try {
      // Drawings of two peers with one configuration are not the same ones.
      const [a, b, again] = training.datasets.map((data) => data.batches(2).next().inputs.pixel_values!.data)
      expect(again).not.toEqual(a)
      expect(b).not.toEqual(a)
      const { measurements, violations } = await runScenario(short, { training })
      expect(violations).toEqual([])
      const [first, last] = [measurements[0]!.merged!, measurements.at(-1)!.merged!]
      expect(last.count).toBe(520)
      expect(last.accuracy).toBeGreaterThan(2 * first.accuracy)
      expect(last.loss).toBeLessThan(0.9 * first.loss)
    } finally {
      await training.close()
    }
  })

  it.each([
    ['a folder with the model in it', path('models/glyphs')],
    ['a model of the hub', 'org/glyphs']
  ])('takes what a node starts with: %s', { timeout: 120_000 }, async (_, model) => {
    const mirror = await startMirror()
    const file = path('models/glyphs/model.onnx')
    mirror.put('org/glyphs', { sha: 'e2'.repeat(20), files: { 'model.onnx': await readFile(file) } })
    const text = await readFile(path('examples/a.yaml'), 'utf8')
    await folder.write('federation.yaml', await readFile(path('examples/federation.yaml')))
    const config = await folder.write('named.yaml', text.replace('../models/glyphs/model.onnx', model))
    const env = { HF_ENDPOINT: mirror.url, HF_HUB_CACHE: folder.at('hub') }
    try {
      const named = await open({ configs: [config] }, 2, env)
      const plain = await open({ configs: ['../a.yaml'] })
      expect(named.trainer.description.modelSha256).toBe(plain.trainer.description.modelSha256)
      expect(named.datasets.map(({ size }) => size)).toEqual([650, 650])
      await Promise.all([named.close(), plain.close()])
    } finally {
      await mirror.close()
    }
  })

  it('names what does not fit together', async () => {
    await expect(open({ config: 'a.yaml' })).rejects.toThrow(/training.config.*configs/)
    await expect(open({ configs: [] })).rejects.toThrow(/training.configs: expected a list of 1 to 1024/)
    const text = (await readFile(path('examples/a.yaml'), 'utf8')).replaceAll(': ..', `: ${path('')}`)
    const manifest = (await readFile(path('examples/federation.yaml'), 'utf8')).replace('seed: letters', 'seed: other')
    await folder.write('federation.yaml', manifest)
    const other = await folder.write('other.yaml', text)
    await expect(open({ configs: ['../a.yaml', other] })).rejects.toThrow(/training.configs: .*several federations/)
  })
})
