import { readdir, readFile, readlink, rm, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { createHubClient } from '../../src/hub/client.js'
import { parseHubReference } from '../../src/hub/reference.js'
import { type DownloadProgress, openSnapshot, type SnapshotKind, type SnapshotOptions } from '../../src/hub/snapshot.js'
import { temporaryFolder } from '../node/folder.js'
import { type Mirror, startMirror } from './mirror.js'

const folder = await temporaryFolder()
const SHA = '1234567890'.repeat(4)
const weights = Uint8Array.from({ length: 70_000 }, (_, index) => (index * 7) % 251)
const FILES = {
  'README.md': '---\nlicense: mit\n---\n',
  'config.json': '{"hidden_size": 3}',
  'tokenizer.json': '{}',
  'model.safetensors': 'not wanted',
  'onnx/model.onnx': 'a graph',
  'onnx/model.onnx_data': weights,
  'onnx/model_q4.onnx': 'a smaller graph'
}

let mirror: Mirror
let cacheDir: string
let caches = 0
beforeAll(async () => {
  mirror = await startMirror()
})
afterAll(() => mirror.close())
beforeEach(() => {
  mirror.faults.clear()
  mirror.requests.length = 0
  mirror.leaked.length = 0
  mirror.token = undefined
  mirror.put('org/name', { sha: SHA, files: FILES, large: ['onnx/model.onnx', 'onnx/model.onnx_data'] })
  cacheDir = folder.at(`cache-${caches++}`)
})

const open = (text: string, options: Partial<SnapshotOptions> & { kind?: SnapshotKind; token?: string } = {}) => {
  const reference = parseHubReference(text)
  if (reference === undefined) throw new Error(`${text} is no reference`)
  const { kind = 'model', token, ...others } = options
  return openSnapshot(reference, kind, {
    cacheDir,
    client: createHubClient({ hubUrl: mirror.url, token }),
    weightFiles: async (path) => (path.endsWith('/model.onnx') ? ['model.onnx_data'] : []),
    ...others
  })
}

const root = () => join(cacheDir, 'models--org--name')

describe('a snapshot', () => {
  it('has the model, its weights and what belongs to them, and nothing else', async () => {
    const seen: DownloadProgress[] = []
    const { path, sha, folder: snapshot } = await open('org/name', { progress: (progress) => seen.push(progress) })
    expect(sha).toBe(SHA)
    expect(path).toBe(join(root(), 'snapshots', SHA, 'onnx/model.onnx'))
    expect(await readFile(join(dirname(path as string), 'model.onnx_data'))).toEqual(Buffer.from(weights))
    const found = (await readdir(snapshot, { recursive: true })).toSorted()
    expect(found).toEqual(
      ['README.md', 'config.json', 'onnx', 'onnx/model.onnx', 'onnx/model.onnx_data', 'tokenizer.json'].toSorted()
    )
    expect(seen).toContainEqual({ file: 'onnx/model.onnx_data', received: weights.length, total: weights.length })
    expect(mirror.requests.some((request) => /model_q4|safetensors/.test(request))).toBe(false)
  })

  it('lies as Python would have put it: blobs by hash, links relative, the ref last', async () => {
    await open('org/name')
    expect(await readFile(join(root(), 'refs/main'), 'utf8')).toBe(SHA)
    // As sha256sum and git hash-object name them.
    expect(await readlink(join(root(), 'snapshots', SHA, 'onnx/model.onnx_data'))).toBe(
      '../../../blobs/84bc50d4d2f6f3a614f6720911ca67c9e4c8771648a9d7934a556450e4e8192b'
    )
    expect(await readlink(join(root(), 'snapshots', SHA, 'config.json'))).toBe(
      '../../blobs/722c48ba1caf3a858278247e21b73169287d8a2f'
    )
    expect((await readdir(join(root(), 'blobs'))).every((name) => /^([0-9a-f]{40}|[0-9a-f]{64})$/.test(name))).toBe(
      true
    )
  })

  it('is downloaded once', async () => {
    const first = await open('org/name')
    mirror.requests.length = 0
    expect(await open('org/name')).toEqual(first)
    expect(mirror.requests.filter((request) => request.includes('/resolve/'))).toEqual([])
    mirror.requests.length = 0
    expect(await open(`org/name@${SHA}`)).toEqual(first)
    expect(mirror.requests).toEqual([])
  })

  it('follows a branch that has moved', async () => {
    await open('org/name')
    const later = '5'.repeat(40)
    mirror.put('org/name', { sha: later, files: { ...FILES, 'config.json': '{"hidden_size": 4}' } })
    const { sha, folder: snapshot } = await open('org/name')
    expect(sha).toBe(later)
    expect(await readFile(join(snapshot, 'config.json'), 'utf8')).toBe('{"hidden_size": 4}')
    expect(await readFile(join(root(), 'refs/main'), 'utf8')).toBe(later)
  })

  it('of a named file, or of the small files alone', async () => {
    const { path } = await open('org/name:onnx/model_q4.onnx')
    expect(await readFile(path as string, 'utf8')).toBe('a smaller graph')
    const other = await open('org/name', { kind: 'files', cacheDir: folder.at('small') })
    expect(other.path).toBeUndefined()
    expect((await readdir(other.folder)).toSorted()).toEqual(['README.md', 'config.json', 'tokenizer.json'])
  })

  it('gives the token to the hub and to nobody it points to', async () => {
    mirror.token = 'secret'
    await expect(open('org/name')).rejects.toMatchObject({
      code: 'hub/forbidden',
      hint: expect.stringContaining('HF_TOKEN')
    })
    const { sha } = await open('org/name', { token: 'secret' })
    expect(sha).toBe(SHA)
    expect(mirror.leaked).toEqual([])
  })
})

describe('without a hub', () => {
  const dead = () => createHubClient({ hubUrl: 'http://127.0.0.1:1' })

  it('the cache answers for a branch and for a commit', async () => {
    const online = await open('org/name')
    expect(await open('org/name', { client: undefined })).toEqual(online)
    expect(await open(`org/name@${SHA}`, { client: undefined })).toEqual(online)
    const told: string[] = []
    const fallback = (error: Error, sha: string) => told.push(`${sha} ${error.message}`)
    expect(await open('org/name', { client: dead(), fallback })).toEqual(online)
    expect(told).toEqual([expect.stringMatching(`^${SHA} http://127.0.0.1:1 cannot be asked for org/name@main`)])
    mirror.faults.set('revision', 'down')
    expect(await open('org/name')).toEqual(online)
  })

  it('what is not there is said', async () => {
    await expect(open('org/name', { client: undefined })).rejects.toMatchObject({
      code: 'hub/not-cached',
      hint: expect.stringContaining('HF_HUB_OFFLINE')
    })
    await expect(open('org/name', { client: dead() })).rejects.toMatchObject({ code: 'hub/unreachable' })
    const { path } = await open('org/name:onnx/model_q4.onnx')
    expect(path).toBeDefined()
    await expect(open('org/name:onnx/model.onnx', { client: undefined })).rejects.toMatchObject({
      code: 'hub/not-cached',
      message: expect.stringContaining('no onnx/model.onnx')
    })
  })

  it('a file that was changed is not used, and comes again when there is a hub', async () => {
    const { path } = await open('org/name')
    await writeFile(path as string, 'another graph')
    await expect(open('org/name', { client: undefined })).rejects.toMatchObject({ code: 'hub/damaged' })
    await open('org/name')
    expect(await readFile(path as string, 'utf8')).toBe('a graph')
  })
})

describe('what comes wrong', () => {
  const leftovers = () => readdir(join(root(), 'blobs')).then((names) => names.filter((name) => name.includes('.')))

  it.each(['onnx/model.onnx_data', 'config.json'])('other bytes: %s', async (file) => {
    mirror.faults.set(file, 'wrong bytes')
    await expect(open('org/name')).rejects.toMatchObject({ code: 'hub/wrong-hash', facts: { path: file } })
    expect(await leftovers()).toEqual([])
    await expect(readFile(join(root(), 'refs/main'))).rejects.toThrow()
    mirror.faults.clear()
    await open('org/name')
  })

  it('a connection that breaks is taken up where it broke', async () => {
    mirror.faults.set('onnx/model.onnx_data', 'cut once')
    const { path } = await open('org/name')
    expect(await readFile(join(dirname(path as string), 'model.onnx_data'))).toEqual(Buffer.from(weights))
  })

  it('one that breaks again and again is given up', async () => {
    mirror.faults.set('onnx/model.onnx_data', 'always cut')
    await expect(open('org/name')).rejects.toMatchObject({
      code: 'hub/truncated',
      facts: { path: 'onnx/model.onnx_data', expected: weights.length, got: 0 }
    })
    expect(await leftovers()).toEqual([])
  })

  it.each([
    ['org/none', 'hub/not-found'],
    ['org/name@v9', 'hub/not-found'],
    ['org/name:model_fp16.onnx', 'hub/missing-file']
  ])('%s: %s', (text, code) => expect(open(text)).rejects.toMatchObject({ code }))

  it('a file that the hub lists and does not have, or does not give', async () => {
    mirror.faults.set('config.json', 'gone')
    await expect(open('org/name')).rejects.toMatchObject({ code: 'hub/not-found' })
    mirror.faults.set('config.json', 'forbidden')
    await expect(open('org/name')).rejects.toMatchObject({ code: 'hub/forbidden' })
  })

  it('weights that the model names and the repository lacks, or that lie outside', async () => {
    const weightFiles = async () => ['elsewhere.bin']
    await expect(open('org/name', { weightFiles })).rejects.toMatchObject({
      code: 'hub/missing-file',
      facts: { file: 'onnx/elsewhere.bin' }
    })
    await expect(open('org/name', { weightFiles: async () => ['../config.json'] })).rejects.toMatchObject({
      code: 'hub/weights-outside'
    })
  })

  it('more bytes than a model may have are not even asked for', async () => {
    await expect(open('org/name', { maxBytes: 1000 })).rejects.toMatchObject({
      code: 'hub/too-large',
      facts: { expected: 1000 }
    })
    expect(mirror.requests.filter((request) => request.includes('model.onnx_data'))).toEqual([])
  })

  it('a repository without an ONNX model says what it has', async () => {
    mirror.put('org/torch', { sha: SHA, files: { 'model.safetensors': 'x', 'config.json': '{}' } })
    await expect(open('org/torch')).rejects.toMatchObject({
      code: 'config/no-model',
      message: 'org/torch@main: expected model.onnx or onnx/model.onnx, found model.safetensors',
      hint: expect.stringContaining('optimum-cli export onnx')
    })
    mirror.put('org/parts', { sha: SHA, files: { 'onnx/decoder.onnx': 'x', 'onnx/encoder.onnx': 'y' } })
    await expect(open('org/parts')).rejects.toMatchObject({
      code: 'config/no-model',
      hint: 'name the file: org/parts:onnx/decoder.onnx'
    })
  })

  it('a listing that would write outside the cache', async () => {
    mirror.put('org/evil', { sha: SHA, files: { 'model.onnx': 'x', '../../escape.json': '{}' } })
    await expect(open('org/evil')).rejects.toMatchObject({ code: 'hub/bad-answer' })
  })
})

it('a lost blob is fetched again', async () => {
  await open('org/name')
  await rm(join(root(), 'blobs'), { recursive: true })
  const { path } = await open('org/name')
  expect(await readFile(path as string, 'utf8')).toBe('a graph')
})
