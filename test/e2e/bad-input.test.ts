import { readFile, writeFile } from 'node:fs/promises'
import { describe, expect, it } from 'vitest'
import { modelSha256 } from '../../src/node/config/model-hash.js'
import { MODEL } from './daemon-folder.js'
import { expectSentence, refusalFolder, withTakenPort } from './refused-start.js'

const { file, writeFederation, start } = refusalFolder()
const ANOTHER = 'ab'.repeat(32)

/** The federation of the model that ships. */
const writeOwn = async (change?: (text: string) => string): Promise<void> =>
  writeFederation({ sha256: await modelSha256(MODEL), ...(change && { change }) })

describe('bad input', () => {
  it('a federation file with an unknown key: file, line, key; exit 2', async () => {
    await writeFederation({ sha256: ANOTHER, change: (text) => text.replace('mixing:', 'mixin:') })
    expectSentence(await start(), /federation\.yaml:\d+.*unknown key "mixin".*mixing/)
  })

  it('a model that is no ONNX file: its name; exit 2', async () => {
    await writeFile(file('model.onnx'), 'these are not the weights you are looking for')
    await writeFederation({ sha256: ANOTHER })
    expectSentence(await start({ model: file('model.onnx') }), /model\.onnx.*ONNX/)
  })

  it('another model than the federation trains on: both hashes; exit 2', async () => {
    await writeFederation({ sha256: ANOTHER })
    expectSentence(await start(), new RegExp(`abab.*${await modelSha256(MODEL)}`))
  })

  it('a status port in use: the port; exit 2', async () => {
    await writeOwn()
    await withTakenPort(async (port) => expectSentence(await start({ http: { port } }), new RegExp(`${port}.*in use`)))
  })

  // The model is not the federation's: that would be said once it is looked at.
  it('a listen port in use: field, address and port, before the model is looked at; exit 2', async () => {
    await writeFederation({ sha256: ANOTHER })
    await withTakenPort(async (port) => {
      const address = `/ip4/127.0.0.1/tcp/${port}`
      expectSentence(await start({ listen: [address] }), new RegExp(`listen: .*${port} in ${address}.*in use`))
    })
  })

  it('an address that the machine lacks: field and address, before the model is looked at; exit 2', async () => {
    await writeFederation({ sha256: ANOTHER })
    expectSentence(await start({ listen: ['/ip4/192.0.2.1/tcp/0'] }), /listen: .*of this machine, got 192\.0\.2\.1/)
  })

  it('a network key that is none: the file; exit 2', async () => {
    await writeOwn()
    await writeFile(file('network.key'), 'swordfish')
    expectSentence(await start({ networkKey: file('network.key') }), /network\.key/)
  })

  it('a module that the model lacks: what it has; exit 2', async () => {
    await writeOwn((text) => text.replace('- query', '- q_proj'))
    expectSentence(await start(), /q_proj.*query/)
  })

  it('data that does not fit the task, and rows and files that are broken: file and line; exit 1', async () => {
    await writeOwn()
    const [images, labels] = [file('images.idx'), file('labels.idx')]
    await writeFile(images, '')
    await writeFile(labels, '')
    const empty = await start({ data: { kind: 'idx', images, labels, testSamples: 1 } })
    expectSentence(empty, /(images|labels)\.idx: expected an IDX file.*got fewer than 4 bytes/, 1)

    await writeFile(file('rows.jsonl'), '{"text":"fine","label":"A"}\n{"text":')
    await writeFile(file('tokenizer.json'), '{}')
    const rows = { kind: 'jsonl', path: file('rows.jsonl'), tokenizer: file('tokenizer.json') }
    expectSentence(await start({ data: rows }), /jsonl.*image-classification/, 1)
    expect(await readFile(file('rows.jsonl'), 'utf8')).toContain('fine')
  })
})
