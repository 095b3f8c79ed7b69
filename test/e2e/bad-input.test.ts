import { execFile } from 'node:child_process'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { createServer, type Server } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { entryUrl } from '../../src/base/entry.js'
import { printManifest } from '../../src/node/manifest.js'
import { modelSha256 } from '../../src/node/model-hash.js'
import { printYaml } from '../../src/node/yaml-file.js'

const MODEL = fileURLToPath(new URL('../../models/glyphs/model.onnx', import.meta.url))

let folder: string
const file = (name: string) => join(folder, name)

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'peertune-bad-'))
})
afterEach(() => rm(folder, { recursive: true, force: true }))

/** Runs the daemon until it ends by itself. */
const start = (config: string): Promise<{ code: number | null; stderr: string }> =>
  new Promise((resolve) => {
    const cli = fileURLToPath(entryUrl('cli/main.js'))
    const args = [cli, 'start', '--config', config, '--log-level', 'silent']
    execFile(process.execPath, args, (error, _stdout, stderr) =>
      resolve({ code: error === null ? 0 : Number(error.code), stderr: stderr.trim() })
    )
  })

const TASK = { kind: 'image-classification', labels: ['A', 'B', 'C'] } as const

async function writeFederation(sha256: string, change: (text: string) => string = (text) => text): Promise<void> {
  const text = printManifest({
    peertune: 1,
    name: 'bad-input',
    model: { sha256 },
    task: TASK,
    peft: { method: 'lora', rank: 2, alpha: 4, targets: ['query'], head: ['classifier'], seed: 's' },
    mixing: { localSteps: 4, codec: 'int8', gamma: 1, settleExchanges: 1, isolationFactor: 10 }
  })
  await writeFile(file('federation.yaml'), change(text))
}

async function writeConfig(overrides: Record<string, unknown> = {}): Promise<string> {
  const config = {
    federation: file('federation.yaml'),
    model: MODEL,
    dataDir: file('data'),
    data: { kind: 'glyphs', classes: ['A', 'B'], samples: 8, seed: 'x', testSamples: 6 },
    training: { steps: 2, batchSize: 4 },
    device: 'cpu',
    threads: 1,
    listen: ['/ip4/127.0.0.1/tcp/0'],
    ...overrides
  }
  await writeFile(file('node.yaml'), printYaml(config))
  return file('node.yaml')
}

/** One sentence, no stack. */
function expectSentence(stderr: string, pattern: RegExp): void {
  expect(stderr).toMatch(pattern)
  expect(stderr).not.toMatch(/\n\s+at /)
  expect(stderr.split('\n').length).toBeLessThanOrEqual(2)
}

describe('bad input', () => {
  it('a federation file with an unknown key: file, line, key; exit 2', async () => {
    await writeFederation('ab'.repeat(32), (text) => text.replace('mixing:', 'mixin:'))
    const { code, stderr } = await start(await writeConfig())
    expect(code).toBe(2)
    expectSentence(stderr, /federation\.yaml:\d+.*unknown key "mixin".*mixing/)
  })

  it('a model that is no ONNX file: its name; exit 2', async () => {
    await writeFile(file('model.onnx'), 'these are not the weights you are looking for')
    await writeFederation('ab'.repeat(32))
    const { code, stderr } = await start(await writeConfig({ model: file('model.onnx') }))
    expect(code).toBe(2)
    expectSentence(stderr, /model\.onnx.*ONNX/)
  })

  it('another model than the federation trains on: both hashes; exit 2', async () => {
    await writeFederation('ab'.repeat(32))
    const { code, stderr } = await start(await writeConfig())
    expect(code).toBe(2)
    expectSentence(stderr, new RegExp(`abab.*${await modelSha256(MODEL)}`))
  })

  it('a status port in use: the port; exit 2', async () => {
    await writeFederation(await modelSha256(MODEL))
    const server: Server = createServer()
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    const address = server.address()
    const port = typeof address === 'object' && address !== null ? address.port : 0
    try {
      const { code, stderr } = await start(await writeConfig({ http: { port } }))
      expect(code).toBe(2)
      expectSentence(stderr, new RegExp(`${port}.*in use`))
    } finally {
      server.close()
    }
  })

  it('a listen port in use: exit 2', async () => {
    await writeFederation(await modelSha256(MODEL))
    const server: Server = createServer()
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    const address = server.address()
    const port = typeof address === 'object' && address !== null ? address.port : 0
    try {
      const { code, stderr } = await start(await writeConfig({ listen: [`/ip4/127.0.0.1/tcp/${port}`] }))
      expect(code).toBe(2)
      expectSentence(stderr, /port/)
    } finally {
      server.close()
    }
  })

  it('a network key that is none: the file; exit 2', async () => {
    await writeFederation(await modelSha256(MODEL))
    await writeFile(file('network.key'), 'swordfish')
    const { code, stderr } = await start(await writeConfig({ networkKey: file('network.key') }))
    expect(code).toBe(2)
    expectSentence(stderr, /network\.key/)
  })

  it('a module that the model lacks: what it has; exit 2', async () => {
    await writeFederation(await modelSha256(MODEL), (text) => text.replace('- query', '- q_proj'))
    const { code, stderr } = await start(await writeConfig())
    expect(code).toBe(2)
    expectSentence(stderr, /q_proj.*query/)
  })

  it('data that does not fit the task, and rows and files that are broken: file and line; exit 1', async () => {
    await writeFederation(await modelSha256(MODEL))
    const images = file('images.idx')
    await writeFile(images, '')
    await writeFile(file('labels.idx'), '')
    const empty = { kind: 'idx', images, labels: file('labels.idx'), testSamples: 1 }
    const noBytes = await start(await writeConfig({ data: empty }))
    expect(noBytes.code).toBe(1)
    expectSentence(noBytes.stderr, /(images|labels)\.idx: expected an IDX file.*got fewer than 4 bytes/)

    await writeFile(file('rows.jsonl'), '{"text":"fine","label":"A"}\n{"text":')
    const rows = { kind: 'jsonl', path: file('rows.jsonl'), tokenizer: file('tokenizer.json') }
    await writeFile(file('tokenizer.json'), '{}')
    const wrongTask = await start(await writeConfig({ data: rows }))
    expect(wrongTask.code).toBe(1)
    expectSentence(wrongTask.stderr, /jsonl.*image-classification/)
    expect(await readFile(file('rows.jsonl'), 'utf8')).toContain('fine')
  })
})
