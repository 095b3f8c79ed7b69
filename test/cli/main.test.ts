import { spawn } from 'node:child_process'
import { chmod, readFile, stat } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { parse } from 'yaml'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { dataDirPaths } from '../../src/node/host/data-dir.js'
import { writePrivateFile } from '../../src/node/host/private-file.js'
import type { Graph } from '../../src/onnx/graph/graph.js'
import { writeModel } from '../../src/onnx/file/write.js'
import { type StatusServer, startStatusServer } from '../../src/status/server.js'
import { temporaryFolder } from '../node/folder.js'
import { status } from '../status/fixture.js'

/** The built command line: `npm test` builds first. */
const MAIN = fileURLToPath(new URL('../../dist/src/cli/main.js', import.meta.url))
const folder = await temporaryFolder()

interface Ended {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

function peertune(args: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<Ended> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [MAIN, ...args], {
      cwd: folder.root,
      env: { PATH: process.env.PATH ?? '', HOME: folder.root, ...env }
    })
    let [stdout, stderr] = ['', '']
    child.stdout.on('data', (chunk) => (stdout += chunk))
    child.stderr.on('data', (chunk) => (stderr += chunk))
    child.on('error', reject)
    child.on('close', (code) => resolve({ code, stdout, stderr }))
  })
}

const CONFIG = `federation: federation.yaml
model: base.onnx
data:
  kind: glyphs
  classes: [A, K]
  samples: 300
`

const MODEL: Graph = {
  name: 'g',
  opsets: { '': 17 },
  inputs: [{ name: 'x', type: 'float32', shape: [2] }],
  outputs: [{ name: 'y', type: 'float32', shape: [2] }],
  nodes: [{ op: 'Relu', domain: '', name: 'relu', inputs: ['x'], outputs: ['y'], attributes: {} }],
  initializers: new Map(),
  values: new Map()
}

beforeAll(async () => {
  await folder.write('good.yaml', CONFIG)
  await folder.write('unknown.yaml', `${CONFIG}trainig: {}\n`)
  await folder.write('base.onnx', writeModel(MODEL))
  await folder.write('text.onnx', 'no model')
})

describe('usage', () => {
  it('prints help and version with exit code 0', async () => {
    const help = await peertune(['--help'])
    expect(help).toMatchObject({ code: 0, stderr: '' })
    for (const command of ['start', 'config', 'status', 'identity', 'key', 'federation'])
      expect(help.stdout).toMatch(new RegExp(`^  ${command}\\b`, 'm'))
    const { version } = JSON.parse(await readFile(new URL('../../package.json', import.meta.url), 'utf8'))
    expect(await peertune(['--version'])).toEqual({ code: 0, stdout: `${version}\n`, stderr: '' })
  })

  it.each([
    ['18.20.8', 'warning: Node.js 18.20.8 is too old: peertune needs one from 20.20 to 26\n'],
    ['27.0.0', 'warning: Node.js 27.0.0 is newer than what peertune is tested on, which is 20.20 to 26\n']
  ])('says one sentence about Node.js %s before it goes on', async (node, warning) => {
    const disguise = `Object.defineProperty(process,'versions',{value:{...process.versions,node:'${node}'}})`
    const ended = await peertune(['--version'], {
      NODE_OPTIONS: `--import=data:text/javascript,${encodeURIComponent(disguise)}`
    })
    expect(ended).toMatchObject({ code: 0, stderr: warning })
  })

  it.each([
    [['strat'], /unknown command 'strat'\n\(Did you mean start\?\)/],
    [['start'], /required option '--config <file>' not specified/],
    [['start', '--config', 'a', '--prot', '1'], /unknown option '--prot'/],
    [['federation', 'hash'], /missing required argument 'file'/]
  ])('%j is wrong usage: exit code 2', async (args, message) => {
    const { code, stdout, stderr } = await peertune(args)
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' })
    expect(stderr).toMatch(message)
  })
})

describe('mistakes of the operator', () => {
  it.each([
    [
      'an unknown key',
      ['start', '--config', 'unknown.yaml'],
      /^error: unknown\.yaml:7: trainig: expected one of .*, got the unknown key "trainig" \(did you mean "training"\?\)\n$/
    ],
    [
      'no such configuration',
      ['start', '--config', 'none.yaml'],
      /^error: none\.yaml: expected a readable file, got no such file or directory\n$/
    ],
    [
      'no such federation file',
      ['start', '--config', 'good.yaml'],
      /^error: good\.yaml:1: federation: expected a readable file, got .*federation\.yaml \(no such file or directory\)\n$/
    ],
    [
      'a wrong port',
      ['start', '--config', 'good.yaml', '--http-port', 'x'],
      /^error: --http-port: expected a whole number from 0 to 65535, got "x"\n$/
    ],
    [
      'a wrong task',
      ['federation', 'create', '--model', 'base.onnx', '--name', 'n', '--task', 'poetry', '--seed', 's'],
      /^error: --task: expected one of .*, got "poetry"\n$/
    ],
    [
      'a share of what is sent whole',
      // biome-ignore format: a command line
      ['federation', 'create', '--model', 'base.onnx', '--name', 'n', '--task', 'causal-lm', '--targets', 'q', '--seed', 's', '--peers', '18', '--fraction', '0.1'],
      /^error: --fraction: expected nothing, since this codec sends every element/
    ],
    [
      'no number of peers',
      // biome-ignore format: a command line
      ['federation', 'create', '--model', 'base.onnx', '--name', 'n', '--task', 'causal-lm', '--seed', 's', '--peers', '1.5'],
      /^error: --peers: expected a whole number from 1 to 10000000, got 1\.5\n$/
    ],
    [
      'a missing flag',
      ['federation', 'create', '--model', 'base.onnx', '--name', 'n', '--task', 'causal-lm', '--seed', 's'],
      /^error: --targets is missing, expected a list of 1 to/
    ],
    ['a wrong url', ['status', '--url', 'nonsense'], /^error: --url: expected an address such as/]
  ])('%s: one sentence, exit code 2', async (_, args, message) => {
    const { code, stdout, stderr } = await peertune(args)
    expect(stderr).toMatch(message)
    expect({ code, stdout, lines: stderr.trimEnd().split('\n').length }).toEqual({ code: 2, stdout: '', lines: 1 })
  })

  it('shows the stack when asked to debug', async () => {
    const { code, stderr } = await peertune(['start', '--config', 'none.yaml', '--log-level', 'debug'])
    expect(code).toBe(2)
    expect(stderr).toMatch(/^error: none\.yaml.*\nPeertuneError: [\s\S]*\n {4}at [\s\S]*caused by Error: ENOENT/)
  })

  it('a model that is no ONNX file: one sentence, exit code 2', async () => {
    const args = ['federation', 'create', '--model', 'text.onnx', '--name', 'n', '--task', 'causal-lm', '--seed', 's']
    const { code, stderr } = await peertune(args)
    expect(code).toBe(2)
    expect(stderr).toMatch(/^error: .*text\.onnx is no ONNX model: .*\n$/)
  })
})

describe('config --print', () => {
  it('prints the complete configuration, which is one itself', async () => {
    const printed = await peertune(['config', '--print', '--config', 'good.yaml', '--http-port', '7441'])
    expect(printed).toMatchObject({ code: 0, stderr: '' })
    expect(printed.stdout).toContain('port: 7441 # --http-port')
    expect(printed.stdout).toContain('batchSize: 16 # default')
    const file = await folder.write('printed.yaml', printed.stdout)
    expect(await peertune(['config', '--config', file])).toEqual({
      code: 0,
      stdout: `${file}: as it should be\n`,
      stderr: ''
    })
  })

  it('prints a configuration to start from when there is none', async () => {
    const { code, stdout } = await peertune(['config', '--print'])
    expect(code).toBe(0)
    await folder.write('start.yaml', stdout)
    expect((await peertune(['config', '--config', 'start.yaml'])).code).toBe(0)
  })
})

describe('identity', () => {
  it('makes a peer once, in a directory of its own', async () => {
    const first = await peertune(['identity', '--data-dir', 'node'])
    expect(first.stdout).toMatch(/^12D3KooW\w+\n$/)
    expect((await stat(folder.at('node'))).mode & 0o777).toBe(0o700)
    const again = await peertune(['identity', '--data-dir', 'node', '--json'])
    expect(JSON.parse(again.stdout)).toEqual({ peerId: first.stdout.trim(), file: folder.at('node/identity.key') })
  })

  it('refuses a damaged key with one sentence and keeps it', async () => {
    await peertune(['identity', '--data-dir', 'broken'])
    await chmod(folder.at('broken/identity.key'), 0o600)
    await folder.write('broken/identity.key', 'xxx')
    const { code, stderr } = await peertune(['identity', '--data-dir', 'broken'])
    expect(code).toBe(2)
    expect(stderr).toMatch(/^error: .*broken\/identity\.key: expected an Ed25519 private key .*\n$/)
  })
})

describe('key', () => {
  it('writes a key for its owner alone, and never over another', async () => {
    expect(await peertune(['key', 'net.key'])).toEqual({ code: 0, stdout: 'net.key\n', stderr: '' })
    expect((await stat(folder.at('net.key'))).mode & 0o777).toBe(0o600)
    const text = await readFile(folder.at('net.key'), 'utf8')
    expect(text).toMatch(/^\/key\/swarm\/psk\/1\.0\.0\/\n\/base16\/\n[0-9a-f]{64}\n$/)
    expect((await peertune(['key', 'net.key'])).code).toBe(2)
    expect(await readFile(folder.at('net.key'), 'utf8')).toBe(text)
  })
})

describe('federation', () => {
  it('is made from a model and hashes the same on every reading', async () => {
    const flags = [
      '--task',
      'image-classification',
      '--labels',
      'A',
      'B',
      '--targets',
      'query',
      '--rank',
      '4',
      '--seed',
      's'
    ]
    const made = await peertune(['federation', 'create', '--model', 'base.onnx', '--name', 'letters', ...flags])
    expect(made).toMatchObject({ code: 0, stderr: '' })
    expect(made.stdout).toMatch(/rank: 4\n[\s\S]*localSteps: 10\n/)
    const mixing = async (...flags2: string[]) => {
      const args = ['federation', 'create', '--model', 'base.onnx', '--name', 'letters', ...flags, ...flags2]
      return (parse((await peertune(args)).stdout) as { mixing: Record<string, unknown> }).mixing
    }
    expect(await mixing()).toMatchObject({
      codec: 'topk-int4-edge',
      fraction: 0.25,
      gamma: 0.5,
      clip: 0.7,
      maxPull: 0.5
    })
    expect(await mixing('--peers', '17', '--fraction', '0.1')).toMatchObject({ codec: 'topk-int4-edge', fraction: 0.1 })
    expect(await mixing('--peers', '18')).toMatchObject({ codec: 'int8', gamma: 1 })
    expect(await mixing('--codec', 'float16')).toMatchObject({ codec: 'float16', gamma: 1 })
    expect(await mixing('--peers', '18')).not.toHaveProperty('fraction')
    await folder.write('letters.yaml', made.stdout)
    const hashed = await peertune(['federation', 'hash', 'letters.yaml'])
    expect(hashed.stdout).toMatch(/^[0-9a-f]{64}\n$/)
    expect(JSON.parse((await peertune(['federation', 'hash', 'letters.yaml', '--json'])).stdout)).toEqual({
      name: 'letters',
      hash: hashed.stdout.trim()
    })
    await folder.write('typo.yaml', made.stdout.replace('rank:', 'rnak:'))
    const typo = await peertune(['federation', 'hash', 'typo.yaml'])
    expect(typo.code).toBe(2)
    expect(typo.stderr).toMatch(/^error: typo\.yaml:\d+: peft\.rnak: .* \(did you mean "rank"\?\)\n$/)
  })
})

describe('status', () => {
  let server: StatusServer
  beforeAll(async () => {
    server = await startStatusServer({ snapshot: () => status() })
  })
  afterAll(() => server.close())

  it('finds the daemon of a data directory and shows its status', async () => {
    await peertune(['identity', '--data-dir', 'running'])
    const run = { pid: process.pid, url: server.url, addresses: [] }
    await writePrivateFile(dataDirPaths(folder.at('running')).run, JSON.stringify(run))
    const shown = await peertune(['status', '--data-dir', 'running'])
    expect(shown).toMatchObject({ code: 0, stderr: '' })
    expect(shown.stdout).toContain('steps       120 of 400, 7.5/s')
    const json = await peertune(['status', '--data-dir', 'running', '--json'])
    expect(JSON.parse(json.stdout)).toEqual(JSON.parse(JSON.stringify(status())))
  })

  it('says that no daemon runs, or that it does not answer', async () => {
    const none = await peertune(['status', '--data-dir', 'nobody'])
    expect(none.code).toBe(1)
    expect(none.stderr).toMatch(/^error: .*nobody: expected a running daemon's data directory/)
    const gone = await startStatusServer({ snapshot: () => status() })
    await gone.close()
    const silent = await peertune(['status', '--url', gone.url])
    expect(silent.code).toBe(1)
    expect(silent.stderr).toMatch(/expected a status, got no answer \(connection refused\)/)
  })
})

describe('simulate', () => {
  const SCENARIO = 'peers: 4\ndurationMs: 8000\nmeasureMs: 2000\nworkload: { size: 8 }\n'

  it('prints a table and a plot, the same again for the same seed', async () => {
    await folder.write('scenario.yaml', SCENARIO)
    const [one, two, other] = [
      await peertune(['simulate', 'scenario.yaml', '--plot']),
      await peertune(['simulate', 'scenario.yaml', '--plot']),
      await peertune(['simulate', 'scenario.yaml', '--plot', '--seed', 'b'])
    ]
    expect(one.code).toBe(0)
    expect(one.stdout).toContain('exchanges/peer')
    expect(one.stdout).toContain('consensus distance')
    expect(one.stdout).toContain('every promise kept')
    expect(two.stdout).toBe(one.stdout)
    expect(other.stdout).not.toBe(one.stdout)
  })

  it('gives everything as JSON', async () => {
    await folder.write('scenario.yaml', SCENARIO)
    const { stdout } = await peertune(['simulate', 'scenario.yaml', '--json'])
    const result = JSON.parse(stdout)
    expect(result.measurements).toHaveLength(6)
    expect(result.violations).toEqual([])
    expect(result.measurements.at(-1).error).toBeLessThan(result.measurements[1].error)
  })

  it('names the line of a mistake', async () => {
    await folder.write('wrong.yaml', 'peers: 4\nnetwork:\n  loss: 2\n')
    const { code, stderr } = await peertune(['simulate', 'wrong.yaml'])
    expect(code).toBe(2)
    expect(stderr).toContain('wrong.yaml:3: network.loss: expected a number from 0 to 1, got 2')
  })
})
