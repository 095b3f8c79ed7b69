import { spawn, spawnSync } from 'node:child_process'
import { closeSync, openSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { createServer, type AddressInfo } from 'node:net'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { temporaryFolder } from '../node/folder.js'

/** The built command line: `npm test` builds first. */
const MAIN = fileURLToPath(new URL('../../dist/src/cli/main.js', import.meta.url))
const MODEL = fileURLToPath(new URL('../../models/glyphs/model.onnx', import.meta.url))
const folder = await temporaryFolder()

type Target = 'a file' | 'a pipe'
const TARGETS: readonly (readonly [Target, Target])[] = [
  ['a file', 'a file'],
  ['a file', 'a pipe'],
  ['a pipe', 'a file'],
  ['a pipe', 'a pipe']
]

/**
 * Node warns where a stream has more listeners for one event than it should, by default more than ten: here at the third,
 * for what adds one with every line or every command would be found by people first.
 */
const STRICT = `data:text/javascript,${encodeURIComponent(
  'for (const stream of [process.stdout, process.stderr]) stream.setMaxListeners(2)'
)}`

async function peertune(args: readonly string[], [stdout, stderr]: readonly [Target, Target]) {
  const sinks = [stdout, stderr].map((target, i) =>
    target === 'a file' ? openSync(folder.at(`sink${i}`), 'w') : 'pipe'
  )
  const child = spawn(process.execPath, ['--import', STRICT, MAIN, ...args], {
    cwd: folder.root,
    env: { PATH: process.env.PATH ?? '', HOME: folder.root },
    stdio: ['ignore', ...sinks]
  })
  const read = (stream: NodeJS.ReadableStream | null | undefined, i: number) =>
    stream ? text(stream) : ended.then(() => readFile(folder.at(`sink${i}`), 'utf8'))
  const ended = new Promise<number | null>((resolve) => child.on('close', resolve))
  const said = [read(child.stdout, 0), read(child.stderr, 1)]
  const code = await ended
  for (const sink of sinks) if (typeof sink === 'number') closeSync(sink)
  return { code, stdout: await said[0], stderr: await said[1] }
}

const taken = createServer()
let port = 0

beforeAll(async () => {
  await new Promise<void>((resolve) => taken.listen(0, '127.0.0.1', resolve))
  port = (taken.address() as AddressInfo).port
  const labels = ['--labels', 'A', 'B', '--task', 'image-classification', '--targets', 'query', '--seed', 's']
  const args = [MAIN, 'federation', 'create', '--model', MODEL, '--name', 'n', ...labels]
  await folder.write('federation.yaml', spawnSync(process.execPath, args, { encoding: 'utf8' }).stdout)
  await folder.write(
    'node.yaml',
    `federation: federation.yaml
model: ${JSON.stringify(MODEL)}
dataDir: data
data: { kind: glyphs, classes: [A, B], samples: 8 }
`
  )
  await folder.write('text.onnx', 'no model')
})
afterAll(() => taken.close())

describe.each(TARGETS)('with stdout to %s and stderr to %s', (stdout, stderr) => {
  it.each<[string, () => readonly string[], number, () => string]>([
    ['a mistake in the usage', () => ['start'], 2, () => "error: required option '--config <file>' not specified\n"],
    [
      'no such file',
      () => ['start', '--config', 'none.yaml'],
      2,
      () => 'error: none.yaml: expected a readable file, got no such file or directory\n'
    ],
    [
      'no model',
      () => ['inspect', 'text.onnx'],
      2,
      () =>
        'error: text.onnx is no ONNX model: it is truncated or something else (give the path of a .onnx file written by an exporter, whole)\n'
    ],
    [
      'a node that cannot start',
      () => ['start', '--config', 'node.yaml', '--log-level', 'silent', '--listen', `/ip4/127.0.0.1/tcp/${port}`],
      2,
      () =>
        `error: listen: expected a free port, got ${port} in /ip4/127.0.0.1/tcp/${port}, which is in use (stop the program that has it, choose another one, or take any that is free: --listen /ip4/127.0.0.1/tcp/0)\n`
    ]
  ])('%s is its sentence on stderr and nothing else', async (_, args, code, sentence) => {
    expect(await peertune(args(), [stdout, stderr])).toEqual({ code, stdout: '', stderr: sentence() })
  })

  it('a result is on stdout, and nothing on stderr', async () => {
    expect(await peertune(['federation', 'hash', 'federation.yaml'], [stdout, stderr])).toEqual({
      code: 0,
      stdout: expect.stringMatching(/^[0-9a-f]{64}\n$/),
      stderr: ''
    })
  })
})
