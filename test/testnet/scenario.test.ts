import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import { parseOptions } from '../../scripts/testnet/options.js'
import { glyphScenario } from '../../scripts/testnet/scenario.js'
import { createFederation } from '../../src/cli/commands/federation.js'
import { createOutput } from '../../src/cli/output.js'
import { SUGGESTED_CLIP } from '../../src/consensus/rules/radius.js'
import { readManifest } from '../../src/node/config/manifest.js'
import { modelSha256 } from '../../src/node/config/model-hash.js'

const MODEL = fileURLToPath(new URL('../../models/glyphs/model.onnx', import.meta.url))

async function testnetManifest(...flags: readonly string[]) {
  const options = parseOptions(flags)
  if (options === 'help') throw new Error('no help was asked for')
  return glyphScenario(options, await modelSha256(MODEL)).manifest
}

describe("the testnet's federation", () => {
  it('is the one that peertune federation create writes for the same flags', async () => {
    const manifest = await testnetManifest('--peers', '8', '--rank', '4')
    const { task, peft, name } = manifest
    if (!('labels' in task) || !('targets' in peft) || !('head' in peft)) throw new Error('another kind of scenario')
    let text = ''
    await createFederation(
      {
        model: MODEL,
        name,
        task: task.kind,
        labels: task.labels,
        method: 'lora',
        targets: peft.targets as readonly string[],
        head: peft.head,
        rank: '4',
        alpha: '8',
        seed: 'peertune',
        localSteps: '3',
        peers: '8',
        codec: 'int8'
      },
      createOutput((part) => {
        text += part
      })
    )
    const folder = await mkdtemp(join(tmpdir(), 'peertune-scenario-'))
    try {
      const file = join(folder, 'federation.yaml')
      await writeFile(file, text)
      expect(manifest).toEqual(await readManifest(file))
      // What would be missing if the testnet made its manifest by itself.
      expect(manifest.mixing).toMatchObject({ clip: SUGGESTED_CLIP, codec: 'int8', gamma: 1 })
    } finally {
      await rm(folder, { recursive: true, force: true })
    }
  })

  it('takes the codec and its fraction from the flags', async () => {
    const { mixing } = await testnetManifest('--codec', 'topk-int4-edge', '--fraction', '0.25', '--local-steps', '7')
    expect(mixing).toMatchObject({ codec: 'topk-int4-edge', fraction: 0.25, localSteps: 7, clip: SUGGESTED_CLIP })
    await expect(testnetManifest('--fraction', '0.25')).rejects.toMatchObject({ code: 'config/wrong-value' })
  })
})
