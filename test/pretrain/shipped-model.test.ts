import { readFile, stat } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import { DIGITS } from '../../src/data/images/glyph-shapes.js'
import { openDataset } from '../../src/data/source.js'
import { parseModel, readModel } from '../../src/onnx/file/read.js'
import { createSession } from '../../src/onnx/runtime/session.js'
import { writeModel } from '../../src/onnx/file/write.js'
import { buildVit, GLYPH_VIT, huggingFaceConfig } from '../../scripts/pretrain/vit.js'
import { initialWeights } from '../../scripts/pretrain/initial-weights.js'

const FOLDER = fileURLToPath(new URL('../../models/glyphs/', import.meta.url))

describe('the base model that ships', () => {
  it('is the graph the pre-training script builds, under 1.5 MB', async () => {
    const shipped = await readModel(`${FOLDER}model.onnx`)
    const built = parseModel(writeModel(buildVit(GLYPH_VIT, initialWeights('any'))))
    expect(shipped.nodes).toEqual(built.nodes)
    expect((await stat(`${FOLDER}model.onnx`)).size).toBeLessThan(1.5e6)
    const config: unknown = JSON.parse(await readFile(`${FOLDER}config.json`, 'utf8'))
    expect(config).toEqual(huggingFaceConfig(GLYPH_VIT, DIGITS))
  })

  it('knows more than 97 % of digits it has never seen', async () => {
    const graph = await readModel(`${FOLDER}model.onnx`)
    const data = await openDataset(
      { kind: 'glyphs', classes: DIGITS, samples: 1, seed: 's', testSamples: 1000, testSeed: 'shipped' },
      { kind: 'image-classification', labels: DIGITS },
      graph
    )
    const session = await createSession(graph)
    let right = 0
    for (const { inputs, labels } of data.evaluation(100)) {
      const { logits } = await session.run(inputs)
      labels.data.forEach((label, row) => {
        const scores = Array.from(logits!.data.subarray(10 * row, 10 * row + 10))
        if (scores.indexOf(Math.max(...scores)) === label) right += 1
      })
    }
    await session.release()
    expect(right).toBeGreaterThan(970)
  })
})
