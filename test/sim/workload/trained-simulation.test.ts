import { readFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import { openTrainedSimulation } from '../../../src/sim/workload/trained-simulation.js'
import { readYamlFile } from '../../../src/node/host/yaml-file.js'
import { runScenario } from '../../../src/sim/run.js'
import { readScenario, type Scenario } from '../../../src/sim/world/scenario.js'
import { temporaryFolder } from '../../node/folder.js'

const path = (name: string) => fileURLToPath(new URL(`../../../${name}`, import.meta.url))
const folder = await temporaryFolder()

const open = (section: unknown, peers = 2, file = path('examples/scenarios/letters.yaml')) =>
  openTrainedSimulation({ section, file, origin: (field) => ['training', ...field].join('.'), peers })

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
