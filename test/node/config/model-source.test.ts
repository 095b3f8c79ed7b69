import { cp, mkdir, readdir, readFile, symlink } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { hubProgress } from '../../../src/cli/hub-progress.js'
import { resolveConfig } from '../../../src/node/config/config.js'
import { modelSha256 } from '../../../src/node/config/model-hash.js'
import {
  type HubObserver,
  openAdapterPath,
  openModelFile,
  withLocalFiles
} from '../../../src/node/config/model-source.js'
import { openLocalTrainer } from '../../../src/node/model/open-trainer.js'
import { writeWithExternalData } from '../../conformance/external-weights.js'
import { type Mirror, startMirror } from '../../hub/mirror.js'
import { temporaryFolder } from '../folder.js'

const golden = fileURLToPath(new URL('../../golden/conformance/bert-torchscript/model.onnx', import.meta.url))
const SHA = `${'fedcba9876543210'.repeat(2)}01234567`
const folder = await temporaryFolder()
const quiet: HubObserver = { resolved: () => undefined, fallback: () => undefined, progress: () => undefined }

let mirror: Mirror
let env: Record<string, string>
beforeAll(async () => {
  mirror = await startMirror()
  env = { HF_ENDPOINT: `${mirror.url}/`, HF_HUB_CACHE: folder.at('cache') }
  await mkdir(folder.at('split'))
  await writeWithExternalData(golden, folder.at('split'))
  const files = {
    'config.json': '{}',
    'tokenizer.json': '{}',
    'onnx/model.onnx': await readFile(folder.at('split/model.onnx')),
    'onnx/model.onnx.data': await readFile(folder.at('split/model.onnx.data'))
  }
  mirror.put('org/bert', { sha: SHA, files, large: ['onnx/model.onnx', 'onnx/model.onnx.data'] })
})
afterAll(() => mirror.close())

const task = { kind: 'sequence-classification', labels: ['a', 'b', 'c'] } as const
const peft = { method: 'lora', rank: 2, alpha: 4, targets: ['query'], head: [], seed: 's' } as const

async function lossOf(modelPath: string): Promise<number> {
  const spec = { modelPath, task, peft, device: 'cpu', threads: 1 } as const
  const trainer = await openLocalTrainer(spec, { weightsDir: folder.root })
  try {
    const ids = { type: 'int64', shape: [1, 4], data: Int32Array.of(5, 3, 9, 1) } as const
    const mask = { ...ids, data: Int32Array.of(1, 1, 1, 0) }
    const names = trainer.description.inputs.map(({ name }) => name)
    const inputs = Object.fromEntries(names.map((name) => [name, name === 'input_ids' ? ids : mask]))
    const labels = { shape: [1], data: Int32Array.of(2) }
    return (await trainer.step(trainer.description.initial, { inputs, labels })).loss
  } finally {
    await trainer.close()
  }
}

describe('a model with its weights apart, from the hub', () => {
  it('trains as the local one does, though its files are links out of their folder', async () => {
    const path = await openModelFile('org/bert', { env, observer: quiet })
    expect(path).toBe(folder.at(`cache/models--org--bert/snapshots/${SHA}/onnx/model.onnx`))
    expect(await lossOf(path)).toBe(await lossOf(golden))
    expect(await modelSha256(path)).toBe(await modelSha256(folder.at('split/model.onnx')))
  })

  it('is refused by the runtime where a link leads anywhere else', async () => {
    await mkdir(folder.at('linked'))
    await cp(folder.at('split/model.onnx'), folder.at('linked/model.onnx'))
    await symlink('../split/model.onnx.data', folder.at('linked/model.onnx.data'))
    await expect(lossOf(folder.at('linked/model.onnx'))).rejects.toMatchObject({
      code: 'onnx/session-failed',
      message: expect.stringContaining('escapes model directory')
    })
  })

  it('and its tokenizer are what a configuration may name', async () => {
    const data = '{ kind: text, path: play.txt, tokenizer: org/bert@main }'
    const file = await folder.write('node.yaml', `federation: f.yaml\nmodel: org/bert\ndata: ${data}\n`)
    const { config } = await resolveConfig(file)
    expect(config).toMatchObject({ model: 'org/bert', data: { tokenizer: 'org/bert@main' } })
    const local = await withLocalFiles(config, { env, observer: quiet })
    const snapshot = folder.at(`cache/models--org--bert/snapshots/${SHA}`)
    expect(local.model).toBe(join(snapshot, 'onnx/model.onnx'))
    expect(local.data).toEqual({ ...config.data, tokenizer: snapshot })
  })

  it('come from the cache where HF_HUB_OFFLINE is set', async () => {
    const offline = { ...env, HF_ENDPOINT: 'http://127.0.0.1:1', HF_HUB_OFFLINE: '1' }
    const path = await openModelFile('org/bert', { env: offline, observer: quiet })
    expect(path).toBe(folder.at(`cache/models--org--bert/snapshots/${SHA}/onnx/model.onnx`))
    const other = openModelFile('org/other', { env: offline, observer: quiet })
    await expect(other).rejects.toMatchObject({ code: 'hub/not-cached' })
  })

  it('says what it does on stderr: a line that moves on a terminal, whole files elsewhere', async () => {
    const told = async (stream: { isTTY?: boolean }, cache: string) => {
      let text = ''
      const observer = hubProgress({ ...stream, write: (more) => (text += more) })
      await openModelFile('org/bert', { env: { ...env, HF_HUB_CACHE: folder.at(cache) }, observer })
      return text
    }
    const plain = await told({}, 'plain')
    expect(plain).toMatch(/^onnx\/model\.onnx\.data: 0\.\d MB of 0\.\d MB$/m)
    expect(plain).toContain(`org/bert@main: commit ${SHA}\n`)
    expect(plain).not.toContain('\r')
    expect(await told({ isTTY: true }, 'terminal')).toContain('\r\u001b[Konnx/model.onnx.data: ')
  })

  it('a wrong HF_ENDPOINT is the mistake it is', async () => {
    const wrong = openModelFile('org/bert', { env: { ...env, HF_ENDPOINT: 'mirror' }, observer: quiet })
    await expect(wrong).rejects.toMatchObject({ code: 'config/wrong-value' })
  })
})

describe('an adapter from the hub', () => {
  it('is a folder with what an adapter is made of', async () => {
    const files = { 'adapter_config.json': '{}', 'adapter_model.safetensors': 'tensors', 'adapter_model.bin': 'no' }
    mirror.put('org/adapter', {
      sha: SHA,
      files: { ...files, 'optimizer.pt': 'no' },
      large: ['adapter_model.safetensors']
    })
    const path = await openAdapterPath('org/adapter', { env, observer: quiet })
    expect((await readdir(path)).toSorted()).toEqual(['adapter_config.json', 'adapter_model.safetensors'])
    expect(await openAdapterPath('org/adapter', { env: { ...env, HF_HUB_OFFLINE: '1' }, observer: quiet })).toBe(path)
    expect(await openAdapterPath(folder.root, { env, observer: quiet })).toBe(folder.root)
  })

  it('must have its tensors as safetensors', async () => {
    mirror.put('org/pickled', { sha: SHA, files: { 'adapter_config.json': '{}', 'adapter_model.bin': 'pickle' } })
    await expect(openAdapterPath('org/pickled', { env, observer: quiet })).rejects.toMatchObject({
      code: 'hub/missing-file',
      hint: 'it has adapter_model.bin'
    })
  })
})

describe('a local folder', () => {
  const open = (name: string) => openModelFile(folder.at(name), { env: {}, observer: quiet })

  it('is searched where exporters write', async () => {
    expect(await open('split')).toBe(folder.at('split/model.onnx'))
    await mkdir(folder.at('optimum'))
    await cp(folder.at('split'), folder.at('optimum/onnx'), { recursive: true })
    expect(await open('optimum')).toBe(folder.at('optimum/onnx/model.onnx'))
    expect(await open('split/model.onnx')).toBe(folder.at('split/model.onnx'))
  })

  it('without a model says what it holds', async () => {
    await mkdir(folder.at('parts'))
    await folder.write('parts/decoder.onnx', '')
    await expect(open('parts')).rejects.toMatchObject({
      code: 'config/no-model',
      message: `${folder.at('parts')}: expected model.onnx or onnx/model.onnx, found decoder.onnx`,
      hint: `name the file: ${folder.at('parts')}/decoder.onnx`
    })
  })

  it('comes before a model of the hub of the same name', async () => {
    await mkdir(folder.at('org/bert'), { recursive: true })
    await cp(folder.at('split'), folder.at('org/bert'), { recursive: true })
    const file = await folder.write(
      'near.yaml',
      'federation: f\nmodel: org/bert\ndata: { kind: idx, images: i, labels: l }\n'
    )
    expect((await resolveConfig(file)).config.model).toBe(folder.at('org/bert'))
  })
})
