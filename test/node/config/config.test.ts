import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { closest } from '../../../src/node/config/fields.js'
import { checkConfigFiles, defaultDataDir, printConfig, resolveConfig } from '../../../src/node/config/config.js'
import { MAX_YAML_BYTES, parseYaml } from '../../../src/node/host/yaml-file.js'
import { temporaryFolder } from '../folder.js'

const folder = await temporaryFolder()

const MINIMAL = `federation: federation.yaml
model: models/base.onnx
data:
  kind: glyphs
  classes: [A, K]
  samples: 300
`

let count = 0
const resolved = async (text: string, ...rest: unknown[]) => {
  const file = await folder.write(`config-${count++}.yaml`, text)
  return resolveConfig(file, ...(rest as [Record<string, never>?, Record<string, string>?]))
}
/** Code and message of what goes wrong, the folder's path left out. */
const complaint = async (text: string, ...rest: unknown[]) => {
  const error = await resolved(text, ...rest).then(
    () => ({ code: 'none', message: 'accepted', hint: undefined }),
    (cause: { code: string; message: string; hint?: string }) => cause
  )
  return { ...error, code: error.code, message: error.message.replace(/^.*config-\d+\.yaml/, 'FILE'), hint: error.hint }
}

describe('resolveConfig', () => {
  it('fills in every default', async () => {
    const { config } = await resolved(MINIMAL, {}, { HOME: '/home/alice' })
    expect(config).toMatchObject({
      federation: folder.at('federation.yaml'),
      model: folder.at('models/base.onnx'),
      dataDir: '/home/alice/.local/share/peertune',
      label: '',
      data: { kind: 'glyphs', classes: ['A', 'K'], samples: 300, seed: 'train', testSamples: 520, testSeed: 'test' },
      training: { steps: 400, batchSize: 16, learningRate: 3e-3, schedule: 'cosine', beta2: 0.999 },
      device: 'auto',
      listen: ['/ip4/0.0.0.0/tcp/0'],
      bootstrap: [],
      startFrom: null,
      maskFile: null,
      slots: null,
      networkKey: null,
      denyList: null,
      http: { host: '127.0.0.1', port: 0, expose: false },
      checkpointEvery: 5,
      logLevel: 'info'
    })
    expect(config.threads).toBeGreaterThanOrEqual(1)
  })

  it('prefers flags to environment to file to defaults', async () => {
    const text = `${MINIMAL}logLevel: warn\nhttp: { port: 7440 }\n`
    const level = async (...rest: unknown[]) => (await resolved(text, ...rest)).config.logLevel
    expect(await level()).toBe('warn')
    expect(await level({}, { PEERTUNE_LOG_LEVEL: 'error' })).toBe('error')
    expect(await level({ logLevel: 'debug' }, { PEERTUNE_LOG_LEVEL: 'error' })).toBe('debug')
    const { config } = await resolved(text, { httpPort: '7441', listen: ['/ip4/127.0.0.1/tcp/9'] })
    expect(config.http).toEqual({ host: '127.0.0.1', port: 7441, expose: false })
    expect(config.listen).toEqual(['/ip4/127.0.0.1/tcp/9'])
  })

  it('resolves paths in the file from its folder, in flags from the working directory, ~ from home', async () => {
    const text = `${MINIMAL}dataDir: state\nnetworkKey: ~/net.key\n`
    const { config } = await resolved(text, {}, { HOME: '/home/alice' })
    expect(config.dataDir).toBe(folder.at('state'))
    expect(config.networkKey).toBe('/home/alice/net.key')
    expect((await resolved(text, { dataDir: 'here' })).config.dataDir).toBe(join(process.cwd(), 'here'))
  })

  it('resolves the paths of every data source', async () => {
    const data = `{ kind: text, path: play.txt, tokenizer: ../tok, split: { by: speaker, peers: 8, peer: 3 } }`
    const { config } = await resolved(`federation: f\nmodel: m\ndata: ${data}\n`)
    expect(config.data).toEqual({
      kind: 'text',
      path: folder.at('play.txt'),
      tokenizer: join(folder.root, '..', 'tok'),
      sequenceLength: 128,
      seed: 'train',
      split: { by: 'speaker', speakers: 32, peers: 8, peer: 3 }
    })
  })

  it.each([
    [
      'an unknown key',
      `${MINIMAL}lable: x\n`,
      'config/unknown-key',
      /^FILE:7: lable: expected one of federation, .*, got the unknown key "lable"$/,
      'did you mean "label"?'
    ],
    [
      'an unknown key inside',
      MINIMAL.replace('samples', 'sample'),
      'config/unknown-key',
      /^FILE:6: data\.sample: expected one of kind, classes, samples, .* got the unknown key "sample"$/,
      'did you mean "samples"?'
    ],
    [
      'a missing field',
      MINIMAL.replace(/model.*\n/, ''),
      'config/missing-field',
      /^FILE:1: model is missing, expected the path of the base model \(\.onnx\)$/,
      undefined
    ],
    [
      'a wrong type',
      `${MINIMAL}training:\n  steps: many\n`,
      'config/wrong-value',
      /^FILE:8: training\.steps: expected a whole number of at least 1, got "many"$/,
      undefined
    ],
    [
      'a number out of range',
      `${MINIMAL}training: { learningRate: -0.5 }\n`,
      'config/wrong-value',
      /^FILE:7: training\.learningRate: expected a number above 0 and at most 10, got -0\.5$/,
      undefined
    ],
    [
      'an unknown kind of data',
      MINIMAL.replace('glyphs', 'excel'),
      'config/wrong-value',
      /^FILE:4: data\.kind: expected one of glyphs, text, jsonl, csv, parquet, images, tensors, idx, union, got "excel"$/,
      undefined
    ],
    [
      'no kind of data',
      MINIMAL.replace('  kind: glyphs\n', ''),
      'config/missing-field',
      /^FILE:3: data\.kind is missing, expected one of glyphs, text, jsonl, csv, parquet, images, tensors, idx, union$/,
      undefined
    ],
    [
      'a wrong item of a list',
      MINIMAL.replace('K]', '7]'),
      'config/wrong-value',
      /^FILE:5: data\.classes\[1\]: expected a class, got 7$/,
      undefined
    ],
    [
      'a class named twice',
      MINIMAL.replace('K]', 'A]'),
      'config/wrong-value',
      /^FILE:5: data\.classes: expected a list of 1 to 1000 classes, each named once, got \["A","A"\]$/,
      undefined
    ],
    [
      'an address without peer id',
      `${MINIMAL}bootstrap:\n  - /ip4/127.0.0.1/tcp/4001\n`,
      'config/wrong-value',
      /^FILE:8: bootstrap\[0\]: expected an address with a peer id such as .*, got "\/ip4\/127\.0\.0\.1\/tcp\/4001"$/,
      undefined
    ],
    [
      'a section that is a number',
      `${MINIMAL}http: 80\n`,
      'config/wrong-value',
      /^FILE:7: http: expected a section with host, port, expose, got 80$/,
      undefined
    ],
    [
      'an empty file',
      '',
      'config/wrong-value',
      /^FILE:1: the file: expected a section with federation, .*, got nothing$/,
      undefined
    ],
    [
      'a list',
      '- a\n- b\n',
      'config/wrong-value',
      /^FILE:1: the file: expected a section with federation, .*, got \["a","b"\]$/,
      undefined
    ],
    ['a tab', 'federation: f\n\tmodel: m\n', 'config/not-yaml', /^FILE:2: expected valid YAML, got /, undefined],
    [
      'a key given twice',
      `${MINIMAL}label: a\nlabel: b\n`,
      'config/not-yaml',
      /^FILE:8: expected valid YAML, got Map keys must be unique$/,
      undefined
    ],
    [
      'a label that could rewrite a terminal',
      `${MINIMAL}label: "a\\e[2J"\n`,
      'config/wrong-value',
      /^FILE:7: label: expected .* without line breaks or control characters, got /,
      undefined
    ]
  ] as const)('names file, line, field, expected and got for %s', async (_, text, code, message, hint) => {
    const error = await complaint(text)
    expect(error.message).toMatch(message)
    expect(error.code).toBe(code)
    expect(error.hint).toBe(hint)
    expect(error.message).not.toContain('\n')
  })

  it('names the flag or variable where the wrong value came from there', async () => {
    expect((await complaint(MINIMAL, { httpPort: 'abc' })).message).toBe(
      '--http-port: expected a whole number from 0 to 65535, got "abc"'
    )
    expect((await complaint(MINIMAL, { httpPort: '70000' })).message).toContain('--http-port: expected')
    expect((await complaint(MINIMAL, { bootstrap: ['nonsense'] })).message).toMatch(/^--bootstrap: expected an address/)
    expect((await complaint(MINIMAL, {}, { PEERTUNE_LOG_LEVEL: 'loud' })).message).toBe(
      'PEERTUNE_LOG_LEVEL: expected one of debug, info, warn, error, silent, got "loud"'
    )
  })

  it('names a file that cannot be read', async () => {
    await expect(resolveConfig(folder.at('nowhere.yaml'))).rejects.toMatchObject({
      code: 'config/unreadable-file',
      message: `${folder.at('nowhere.yaml')}: expected a readable file, got no such file or directory`
    })
    await expect(resolveConfig(folder.root)).rejects.toMatchObject({ code: 'config/unreadable-file' })
  })

  it('refuses a file that is too large before reading it', async () => {
    const file = await folder.write('big.yaml', '#'.repeat(MAX_YAML_BYTES + 1))
    await expect(resolveConfig(file)).rejects.toMatchObject({ code: 'config/too-large' })
  })

  it('refuses an alias bomb', () => {
    const levels = Array.from({ length: 12 }, (_, i) => `a${i + 1}: &a${i + 1} [${`*a${i},`.repeat(9)}]`)
    expect(() => parseYaml('bomb.yaml', ['a0: &a0 [x]', ...levels].join('\n'))).toThrow(/bomb\.yaml/)
  })
})

describe('checkConfigFiles', () => {
  it('names field, line and path of the first file that is not there', async () => {
    await folder.write('federation.yaml', 'x')
    const complete = await resolved(MINIMAL)
    await expect(checkConfigFiles(complete)).rejects.toMatchObject({
      code: 'config/unreadable-file',
      message: expect.stringMatching(
        /config-\d+\.yaml:2: model: expected a readable file, got .*base\.onnx \(no such file or directory\)$/
      )
    })
  })
})

describe('printConfig', () => {
  it('prints a complete file that says where each value comes from, and reads back as itself', async () => {
    const first = await resolved(`${MINIMAL}label: alice\n`, { httpPort: '7441' }, { HOME: '/home/alice' })
    const printed = printConfig(first)
    expect(printed).toMatch(/^label: alice$/m)
    expect(printed).toMatch(/^ {2}port: 7441 # --http-port$/m)
    expect(printed).toMatch(/^ {2}learningRate: 0\.003 # default$/m)
    expect(printed).toMatch(/^bootstrap: \[\] # default$/m)
    expect((await resolved(printed)).config).toEqual(first.config)
  })
})

describe('defaultDataDir', () => {
  it.each([
    [{ PEERTUNE_HOME: '/p', XDG_DATA_HOME: '/x', HOME: '/h' }, '/p'],
    [{ XDG_DATA_HOME: '/x', HOME: '/h' }, '/x/peertune'],
    [{ XDG_DATA_HOME: 'relative', HOME: '/h' }, '/h/.local/share/peertune'],
    [{ PEERTUNE_HOME: '', HOME: '/h' }, '/h/.local/share/peertune']
  ])('%j -> %s', (env, expected) => expect(defaultDataDir(env as Record<string, string>)).toBe(expected))
})

describe('closest', () => {
  it.each([
    ['lable', ['label', 'listen'], 'label'],
    ['learning_rate', ['learningRate', 'steps'], 'learningRate'],
    ['STEPS', ['steps'], 'steps'],
    ['banana', ['label', 'listen'], undefined]
  ])('%s in %j: %s', (name, known, expected) => expect(closest(name, known)).toBe(expected))
})
