import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { entryUrl } from '../../src/base/entry.js'
import { modelSha256 } from '../../src/node/config/model-hash.js'
import { readNodeRecord } from '../../src/node/trained/trained.js'
import { type Mirror, startMirror } from '../hub/mirror.js'
import { temporaryFolder } from '../node/folder.js'

const MODEL = fileURLToPath(new URL('../../models/glyphs/model.onnx', import.meta.url))
const SHA = 'e2'.repeat(20)
const folder = await temporaryFolder()

let mirror: Mirror
beforeAll(async () => {
  mirror = await startMirror()
  mirror.put('org/glyphs', { sha: SHA, files: { 'model.onnx': await readFile(MODEL) }, large: ['model.onnx'] })
  await folder.write(
    'federation.yaml',
    `peertune: 1
name: letters
model: { sha256: ${await modelSha256(MODEL)} }
task: { kind: image-classification, labels: [A, B] }
peft: { method: lora, rank: 2, alpha: 4, targets: [query], head: [classifier], seed: s }
`
  )
  await folder.write(
    'node.yaml',
    `federation: federation.yaml
model: org/glyphs
dataDir: data
data: { kind: glyphs, classes: [A, B], samples: 8, testSamples: 8 }
listen: [/ip4/127.0.0.1/tcp/0]
device: cpu
threads: 1
`
  )
})
afterAll(() => mirror.close())

/** Starts the daemon, waits until it listens, stops it; resolves with its exit code and its log. */
async function startAndStop(env: Readonly<Record<string, string>>): Promise<{ code: number; log: string }> {
  const cli = fileURLToPath(entryUrl('cli/main.js'))
  const hub = { HF_HUB_CACHE: folder.at('hub'), XDG_CACHE_HOME: folder.at('cache') }
  const child = spawn(process.execPath, [cli, 'start', '--config', folder.at('node.yaml')], {
    env: { ...process.env, ...hub, ...env },
    stdio: ['ignore', 'pipe', 'pipe']
  })
  let log = ''
  child.stderr.on('data', (text) => (log += String(text)))
  const exited = once(child, 'exit')
  for await (const line of createInterface(child.stdout)) if (line.startsWith('status ')) break
  child.kill('SIGINT')
  const [code] = (await exited) as [number]
  return { code, log }
}

describe('a node on a model of the hub', () => {
  it('downloads it, says which commit, and starts without the hub the next time', { timeout: 120_000 }, async () => {
    const first = await startAndStop({ HF_ENDPOINT: mirror.url })
    expect(first.log).toContain(`"commit":"${SHA}"`)
    expect(first.code).toBe(130)
    const { config } = await readNodeRecord(folder.at('data'))
    expect(config.model).toBe(folder.at(`hub/models--org--glyphs/snapshots/${SHA}/model.onnx`))
    expect(mirror.requests.length).toBeGreaterThan(0)

    const dead = await startAndStop({ HF_ENDPOINT: 'http://127.0.0.1:1' })
    expect(dead.log).toContain('using the cached model')
    expect(dead.code).toBe(130)
  })
})
