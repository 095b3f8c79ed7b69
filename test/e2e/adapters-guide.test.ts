import { execFile } from 'node:child_process'
import { cp, mkdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { entryUrl } from '../../src/base/entry.js'
import { federationHash } from '../../src/base/federation.js'
import { silentLogger } from '../../src/base/log.js'
import { createFileStore } from '../../src/checkpoint/file-store.js'
import { resolveConfig } from '../../src/node/config/config.js'
import { readManifest } from '../../src/node/config/manifest.js'
import { modelSha256 } from '../../src/node/config/model-hash.js'
import { openModelFile } from '../../src/node/config/model-source.js'
import { loadAdaptedModel } from '../../src/node/model/program.js'
import { writeNodeRecord } from '../../src/node/trained/trained.js'
import { stateAt } from '../checkpoint/states.js'
import { type Mirror, startMirror } from '../hub/mirror.js'
import { temporaryFolder } from '../node/folder.js'

const guide = await readFile(fileURLToPath(new URL('../../docs/adapters.md', import.meta.url)), 'utf8')
/** Every command of the guide that stands in a block marked `sh`. */
const COMMANDS = [...guide.matchAll(/^```sh\n([\s\S]*?)^```$/gm)].flatMap(([, block = '']) => block.trim().split('\n'))

const golden = fileURLToPath(new URL('../golden/conformance/bert-torchscript', import.meta.url))
const folder = await temporaryFolder()
const SHA = '0a'.repeat(20)
const TOKENIZER = {
  version: '1.0',
  added_tokens: [],
  normalizer: null,
  pre_tokenizer: { type: 'WhitespaceSplit' },
  post_processor: null,
  decoder: null,
  model: {
    type: 'WordLevel',
    vocab: Object.fromEntries(Array.from({ length: 300 }, (_, id) => [`w${id}`, id])),
    unk_token: 'w0'
  }
}

let mirror: Mirror
let env: Record<string, string | undefined>
beforeAll(async () => {
  mirror = await startMirror()
  env = { ...process.env, HF_ENDPOINT: mirror.url, HF_HUB_CACHE: folder.at('hub'), XDG_CACHE_HOME: folder.at('cache') }
  const files = {
    'README.md': '---\nlicense: apache-2.0\n---\n',
    'config.json': await readFile(join(golden, 'config.json')),
    'tokenizer.json': JSON.stringify(TOKENIZER),
    'onnx/model.onnx': await readFile(join(golden, 'model.onnx'))
  }
  mirror.put('your-org/bert', { sha: SHA, files, large: ['onnx/model.onnx'] })
  await cp(join(golden, 'lora/adapter'), folder.at('adapter'), { recursive: true })
  const rows = Array.from({ length: 12 }, (_, i) => ({ text: `w${i + 1} w${7 * i}`, label: 'abc'[i % 3] }))
  await folder.write('rows.jsonl', rows.map((row) => JSON.stringify(row)).join('\n'))
  await writeTrainedNode()
})
afterAll(() => mirror.close())

/** What a node leaves behind that has trained for 40 steps. */
async function writeTrainedNode(): Promise<void> {
  const model = await modelSha256(join(golden, 'model.onnx'))
  const peft = '{ method: lora, rank: 4, targets: [query, value], head: [classifier], seed: s }'
  const task = '{ kind: sequence-classification, labels: [a, b, c] }'
  await folder.write(
    'federation.yaml',
    `peertune: 1\nname: letters\nmodel: { sha256: ${model} }\ntask: ${task}\npeft: ${peft}\n`
  )
  const data = '{ kind: jsonl, path: rows.jsonl, tokenizer: your-org/bert, sequenceLength: 16, heldOut: 0.5 }'
  const text = `federation: federation.yaml\nmodel: your-org/bert\ndataDir: data\ndata: ${data}\nthreads: 1\n`
  const { config } = await resolveConfig(await folder.write('node.yaml', text))
  const manifest = await readManifest(config.federation)
  const observer = { resolved: () => undefined, fallback: () => undefined, progress: () => undefined }
  const local = { ...config, model: await openModelFile(config.model, { env, observer }) }
  const { method } = await loadAdaptedModel(
    { modelPath: local.model, task: manifest.task, peft: manifest.peft },
    { weightsDir: folder.at('cache') }
  )
  await mkdir(config.dataDir)
  // As `peertune start` writes it: with the files of the model that it was started on.
  const tokenizer = folder.at(`hub/models--your-org--bert/snapshots/${SHA}`)
  await writeNodeRecord(config.dataDir, { config: { ...local, data: { ...local.data, tokenizer } as never }, manifest })
  await createFileStore({ directory: join(config.dataDir, 'checkpoints'), log: silentLogger }).save({
    ...stateAt(40, method.schema.size),
    federationHash: federationHash(manifest),
    schemaHash: method.schema.hash,
    journal: { inDoubt: [], accepted: [] },
    inDoubt: {}
  })
}

/** Words of a command line; those in double quotes are one. */
const wordsOf = (command: string): string[] =>
  [...command.matchAll(/"([^"]*)"|(\S+)/g)].map(([, quoted, plain]) => quoted ?? plain ?? '')

async function run(command: string): Promise<string> {
  const [npx, peertune, ...args] = wordsOf(command)
  expect([npx, peertune]).toEqual(['npx', 'peertune'])
  const cli = fileURLToPath(entryUrl('cli/main.js'))
  const { stdout } = await promisify(execFile)(process.execPath, [cli, ...args], { cwd: folder.root, env })
  return stdout
}

/** What to look for in what each prints. */
const SAYS: Readonly<Record<string, RegExp>> = {
  inspect: /^family +BERT$/m,
  methods: /^lora +reparameterized/m,
  import: /^startFrom:$/m,
  export: /^exported\nmerged\.onnx$/m,
  predict: /[0-9.]+ % {2}[abc]$|"label":"LABEL_[012]"/m,
  eval: /^the adapter: loss [0-9.]+ nats/m
}

describe('docs/adapters.md', () => {
  it('has commands of every kind', () => {
    expect(new Set(COMMANDS.map((command) => wordsOf(command)[2]))).toEqual(new Set(Object.keys(SAYS)))
  })

  it.each(COMMANDS)('%s', async (command) => {
    expect(await run(command)).toMatch(SAYS[wordsOf(command)[2] ?? ''] as RegExp)
  })

  it('what was exported names its base by repository and commit, and its licence', async () => {
    const config: unknown = JSON.parse(await readFile(folder.at('exported/adapter_config.json'), 'utf8'))
    expect(config).toMatchObject({ peft_type: 'LORA', base_model_name_or_path: 'your-org/bert', revision: SHA })
    const card = await readFile(folder.at('exported/README.md'), 'utf8')
    expect(card).toMatch(/^base_model: your-org\/bert$/m)
    expect(card).toMatch(/^license: apache-2\.0$/m)
  })
})
