import { createHash } from 'node:crypto'
import { mkdir, readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { federationHash } from '../../../src/base/federation.js'
import { canonicalJson, sha256Hex } from '../../../src/base/bytes.js'
import { SUGGESTED_MAX_PULL } from '../../../src/consensus/rules/mixing.js'
import { SUGGESTED_CLIP } from '../../../src/consensus/rules/radius.js'
import { checkModel, createManifest, printManifest, readManifest } from '../../../src/node/config/manifest.js'
import { modelSha256 } from '../../../src/node/config/model-hash.js'
import type { Graph } from '../../../src/onnx/graph/graph.js'
import { writeModel } from '../../../src/onnx/file/write.js'
import { temporaryFolder } from '../folder.js'

const folder = await temporaryFolder()
const SHA = '0123456789abcdef'.repeat(4)
const MANIFEST = `peertune: 1
name: letters
model:
  sha256: ${SHA}
task:
  kind: image-classification
  labels: [A, B, C]
peft:
  method: lora
  targets: [query, value]
  head: [classifier]
  seed: spring
`
let count = 0
const read = async (text: string) => readManifest(await folder.write(`federation-${count++}.yaml`, text))

describe('readManifest', () => {
  it('fills in the defaults', async () => {
    expect(await read(MANIFEST)).toEqual({
      peertune: 1,
      name: 'letters',
      model: { sha256: SHA },
      task: { kind: 'image-classification', labels: ['A', 'B', 'C'] },
      peft: { method: 'lora', rank: 8, alpha: 16, targets: ['query', 'value'], head: ['classifier'], seed: 'spring' },
      mixing: { localSteps: 10, codec: 'int8', gamma: 1, settleExchanges: 12, isolationFactor: 10 }
    })
  })

  it('writes out the step that is stable with the codec', async () => {
    const mixing = async (text: string) => (await read(`${MANIFEST}mixing:\n${text}`)).mixing
    expect(await mixing('  codec: int4-edge\n')).toMatchObject({ codec: 'int4-edge', gamma: 0.9 })
    expect(await mixing('  codec: topk-edge\n  fraction: 0.02\n')).toMatchObject({ fraction: 0.02, gamma: 0.04 })
    expect(await mixing('  codec: int4-edge\n  gamma: 0.5\n  clip: 2\n')).toMatchObject({ gamma: 0.5, clip: 2 })
    await expect(mixing('  fraction: 0.1\n')).rejects.toMatchObject({ code: 'config/wrong-value' })
    await expect(mixing('  codec: topk\n')).rejects.toMatchObject({ code: 'config/wrong-value' })
    await expect(mixing('  clip: 0\n')).rejects.toMatchObject({ code: 'config/wrong-value' })
  })

  it('reads what is broadcast, defaults written out, and nothing of it where peers exchange in pairs', async () => {
    const mixing = async (text: string) => (await read(`${MANIFEST}mixing:\n${text}`)).mixing
    const defaults = {
      codec: 'topk-int4',
      fraction: 0.025,
      outerStep: 2,
      decay: 0.95,
      resumeAt: 'own',
      maxStep: 1,
      maxAuthors: 64
    }
    expect(await mixing('  mode: broadcast\n')).toMatchObject({ mode: 'broadcast', broadcast: defaults })
    expect((await mixing('  mode: broadcast\n  broadcast: { codec: int8, maxNorm: 5 }\n')).broadcast).toEqual({
      ...defaults,
      codec: 'int8',
      maxNorm: 5
    })
    expect(Object.keys(await mixing('  codec: int8\n'))).not.toContain('broadcast')
    for (const wrong of [
      '  broadcast: {}\n',
      '  mode: pairwise\n  broadcast: {}\n',
      '  mode: broadcast\npeerRanks: nested\n',
      '  mode: broadcast\n  clip: 2\n',
      '  mode: broadcast\n  overlay: { kind: ring }\n',
      '  mode: broadcast\n  broadcast: { maxAuthors: 257 }\n',
      '  mode: broadcast\n  broadcast: { authors: [anna] }\n',
      '  mode: broadcast\n  broadcast: { maxStep: 2 }\n'
    ])
      await expect(mixing(wrong), wrong).rejects.toMatchObject({ code: 'config/wrong-value' })
    const { mixing: made } = createManifest({ ...(await read(MANIFEST)), mixing: { mode: 'broadcast' } }, String)
    expect(made.clip).toBeUndefined()
    expect(made.broadcast).toEqual(defaults)
  })

  it('reads overlay, robust rule and momentum, defaults written out, and leaves them out where nobody asks', async () => {
    const mixing = async (text: string) => (await read(`${MANIFEST}mixing:\n${text}`)).mixing
    expect(Object.keys(await mixing('  codec: int8\n'))).not.toEqual(
      expect.arrayContaining([expect.stringMatching(/overlay|robust|momentum/)])
    )
    expect(
      await mixing('  overlay: { kind: ring }\n  robust: { rule: nnm }\n  momentum: { kind: outer }\n')
    ).toMatchObject({
      overlay: { kind: 'ring', degree: 6 },
      robust: { rule: 'nnm', window: 5, liars: 2 },
      momentum: { kind: 'outer', decay: 0.5, step: 0.7 }
    })
    for (const wrong of [
      '  overlay: { degree: 5 }\n',
      '  robust: { rule: krum }\n',
      '  robust: { rule: balance }\n  clip: 1\n',
      '  momentum: { kind: outer, decay: 1 }\n'
    ])
      await expect(mixing(wrong)).rejects.toMatchObject({ code: 'config/wrong-value' })
  })

  it('clips in every new federation and else only where the manifest says so, and hashes as before clipping was there', async () => {
    const { mixing, ...parts } = await read(MANIFEST)
    expect(mixing.clip).toBeUndefined()
    expect(createManifest(parts, String).mixing).toEqual({
      ...mixing,
      clip: SUGGESTED_CLIP,
      maxPull: SUGGESTED_MAX_PULL
    })
    expect(createManifest({ ...parts, mixing: { clip: 3 } }, String).mixing.clip).toBe(3)
    // As it was before codecs could remember and exchanges could be clipped.
    expect(federationHash({ ...parts, mixing })).toBe(
      sha256Hex(
        canonicalJson({
          ...parts,
          mixing: { localSteps: 10, codec: 'int8', gamma: 1, settleExchanges: 12, isolationFactor: 10 }
        })
      )
    )
  })

  it('hashes alike however it is written, and otherwise for any other content', async () => {
    const spelled = await read(MANIFEST)
    const reordered = await read(`mixing: {}\n${MANIFEST.replace('peertune: 1\n', '')}peertune: 1\n`)
    const explicit = await read(printManifest(spelled))
    expect(federationHash(reordered)).toBe(federationHash(spelled))
    expect(federationHash(explicit)).toBe(federationHash(spelled))
    expect(federationHash(await read(MANIFEST.replace('spring', 'autumn')))).not.toBe(federationHash(spelled))
    expect(federationHash(await read(`${MANIFEST}mixing: { localSteps: 11 }\n`))).not.toBe(federationHash(spelled))
  })

  it('knows FedSA-LoRA by its name, and is the same federation as with its pattern', async () => {
    const named = await read(`${MANIFEST}share: fedsa-lora\n`)
    expect(named.share).toEqual(['lora_A'])
    expect(federationHash(named)).toBe(federationHash(await read(`${MANIFEST}share: [lora_A]\n`)))
    expect((await read(`${MANIFEST}share: lora_B\n`)).share).toEqual(['lora_B'])
  })

  it('takes several methods at once, a start and what is shared', async () => {
    const peft = `peft:
  - method: ravan
    targets: [query]
    seed: spring
  - { method: bitfit, seed: spring }
startFrom: { sha256: ${SHA} }
share: [lora_core]
`
    const manifest = await read(MANIFEST.replace(/peft:[\s\S]*$/, peft))
    expect(manifest).toMatchObject({
      peft: [
        { method: 'ravan', rank: 8, alpha: 16, heads: 4, targets: ['query'], head: [], seed: 'spring' },
        { method: 'bitfit', targets: [], head: [], seed: 'spring' }
      ],
      startFrom: { sha256: SHA },
      share: ['lora_core']
    })
    expect(federationHash(await read(printManifest(manifest)))).toBe(federationHash(manifest))
    await expect(read(MANIFEST.replace(/peft:[\s\S]*$/, peft.replace('bitfit', 'bitfitt')))).rejects.toMatchObject({
      code: 'config/wrong-value',
      message: expect.stringMatching(/:12: peft\[1\]\.method: expected one of lora, .*, got "bitfitt"/)
    })
  })

  it.each([
    [
      'an unknown key',
      MANIFEST.replace('targets', 'target'),
      'config/unknown-key',
      ':10: peft.target: expected one of method, rank, alpha, targets, head, seed, ranks, start, alternate, private, got the unknown key "target"'
    ],
    [
      'a key of another method',
      MANIFEST.replace('method: lora', 'method: full'),
      'config/unknown-key',
      ':10: peft.targets: expected one of method, seed, got the unknown key "targets"'
    ],
    [
      'another version',
      MANIFEST.replace('peertune: 1', 'peertune: 2'),
      'config/wrong-value',
      ':1: peertune: expected 1, got 2'
    ],
    [
      'a short hash',
      MANIFEST.replace(SHA, 'abc'),
      'config/wrong-value',
      ':4: model.sha256: expected the SHA-256 of the base model, 64 hexadecimal digits in lower case, got "abc"'
    ],
    [
      'one label',
      MANIFEST.replace('[A, B, C]', '[A]'),
      'config/wrong-value',
      ':7: task.labels: expected a list of 2 to 10000 labels, got ["A"]'
    ],
    [
      'an unknown task',
      MANIFEST.replace('image-classification', 'poetry'),
      'config/wrong-value',
      ':6: task.kind: expected one of causal-lm, sequence-classification, image-classification, instruction-tuning, token-classification, regression, got "poetry"'
    ],
    [
      'a gamma of 0',
      `${MANIFEST}mixing:\n  gamma: 0\n`,
      'config/wrong-value',
      ':14: mixing.gamma: expected a number above 0 and at most 1, got 0'
    ],
    [
      'a name with a space',
      MANIFEST.replace('letters', 'my letters'),
      'config/wrong-value',
      ':2: name: expected a name of 1 to 64 small letters, digits, dots and dashes, got "my letters"'
    ]
  ])('names file, line and field for %s', async (_, text, code, sentence) => {
    await expect(read(text)).rejects.toMatchObject({ code, message: expect.stringContaining(sentence) })
  })
})

const graph = (weights: Graph['initializers']): Graph => ({
  name: 'g',
  opsets: { '': 17 },
  inputs: [{ name: 'x', type: 'float32', shape: [2] }],
  outputs: [{ name: 'y', type: 'float32', shape: [2] }],
  nodes: [{ op: 'Add', domain: '', name: 'add', inputs: ['x', 'w'], outputs: ['y'], attributes: {} }],
  initializers: weights,
  values: new Map()
})
const inline = graph(
  new Map([['w', { name: 'w', type: 'float32', shape: [2], data: { kind: 'inline', bytes: new Uint8Array(8) } }]])
)
const external = (location: string) =>
  graph(
    new Map([
      ['w', { name: 'w', type: 'float32', shape: [2], data: { kind: 'external', location, offset: 0, length: 8 } }]
    ])
  )
const sha256 = (...parts: Uint8Array[]) =>
  parts.reduce((hash, part) => hash.update(part), createHash('sha256')).digest('hex')

describe('modelSha256', () => {
  it('is the SHA-256 of a file that holds its weights', async () => {
    const bytes = writeModel(inline)
    expect(await modelSha256(await folder.write('inline.onnx', bytes))).toBe(sha256(bytes))
  })

  it('goes on with the file the weights lie in', async () => {
    const [model, weights] = [writeModel(external('w.data')), Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8)]
    await folder.write('w.data', weights)
    expect(await modelSha256(await folder.write('external.onnx', model))).toBe(sha256(model, weights))
  })

  it('remembers the hash of big files until they change', async () => {
    const cacheDir = folder.at('hashes')
    const weights = new Uint8Array(33 * 2 ** 20).fill(3)
    await folder.write('big.data', weights)
    const path = await folder.write('big.onnx', writeModel(external('big.data')))
    const first = await modelSha256(path, { cacheDir })
    expect(first).toBe(sha256(writeModel(external('big.data')), weights))
    const records = await readdir(cacheDir)
    expect(records).toHaveLength(1)
    // What is remembered is what is answered.
    await writeFile(join(cacheDir, records[0] ?? ''), 'ab'.repeat(32))
    expect(await modelSha256(path, { cacheDir })).toBe('ab'.repeat(32))
    weights[17] = 4
    await folder.write('big.data', weights)
    expect(await modelSha256(path, { cacheDir })).toBe(sha256(writeModel(external('big.data')), weights))
    await writeFile(join(cacheDir, records[0] ?? ''), 'no hash')
    expect(await readdir(cacheDir)).toHaveLength(2)
  })

  it('says when the weights are missing, or outside the folder', async () => {
    const missing = await folder.write('missing.onnx', writeModel(external('gone.data')))
    await expect(modelSha256(missing)).rejects.toMatchObject({ code: 'onnx/missing-weights' })
    await mkdir(folder.at('inner'))
    await folder.write('outside.data', new Uint8Array(8))
    const outside = await folder.write('inner/outside.onnx', writeModel(external('../outside.data')))
    await expect(modelSha256(outside)).rejects.toMatchObject({ code: 'onnx/weights-outside' })
  })
})

describe('checkModel', () => {
  it('accepts the federation model and names both hashes for another', async () => {
    const bytes = writeModel(inline)
    const model = await folder.write('check.onnx', bytes)
    await checkModel(await read(MANIFEST.replace(SHA, sha256(bytes))), model)
    await expect(checkModel(await read(MANIFEST), model)).rejects.toMatchObject({
      code: 'config/wrong-model',
      facts: { expected: SHA, got: sha256(bytes) }
    })
  })

  it('says that a file is no ONNX model, not that it is another model', async () => {
    const model = await folder.write('text.onnx', 'this is a text')
    await expect(checkModel(await read(MANIFEST), model)).rejects.toMatchObject({ code: 'onnx/not-a-model' })
  })
})
