import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import { checkConfigFiles, resolveConfig } from '../../src/node/config/config.js'
import { checkModel, readManifest } from '../../src/node/config/manifest.js'

const path = (name: string) => fileURLToPath(new URL(`../../${name}`, import.meta.url))
const model = path('models/glyphs/model.onnx')

describe('examples', () => {
  it('give two peers of one federation different letters and places of their own', async () => {
    const [a, b] = await Promise.all(['a', 'b'].map((name) => resolveConfig(path(`examples/${name}.yaml`))))
    const manifest = await readManifest(path('examples/federation.yaml'))
    const letters = [a, b].map((one) => (one?.config.data.kind === 'glyphs' ? one.config.data.classes : []))
    expect(letters.flat().sort()).toEqual('labels' in manifest.task ? [...manifest.task.labels] : [])
    expect(a?.config.federation).toBe(b?.config.federation)
    expect(a?.config.dataDir).not.toBe(b?.config.dataDir)
    expect(a?.config.model).toBe(model)
  })

  // The base model is made by `npm run pretrain`; a checkout without it has nothing to compare with.
  it.skipIf(!existsSync(model))('train on the base model that ships', async () => {
    await checkModel(await readManifest(path('examples/federation.yaml')), model)
    await checkConfigFiles(await resolveConfig(path('examples/a.yaml')))
  })
})
