import { execFile } from 'node:child_process'
import { cp, mkdir, mkdtemp, readdir, readFile, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type NodeProcess, startNode } from '../../scripts/testnet/node-process.js'
import { statusOf, until } from '../e2e/daemon-folder.js'
import { packPackage, withoutNpm } from '../package/packed.js'

const run = promisify(execFile)
const START_TIMEOUT_MS = 300_000

/** A machine that knows nothing of this checkout or of its user: no settings of npm, no home. */
function strangersEnv(): NodeJS.ProcessEnv {
  const { HOME: _, XDG_CONFIG_HOME: __, XDG_DATA_HOME: ___, NODE_PATH: ____, ...env } = withoutNpm()
  return env
}

/** What a machine needs to reach its registry is the machine's, not the user's. */
async function npmEnv(home: string): Promise<NodeJS.ProcessEnv> {
  const setting = async (name: string) => (await run('npm', ['config', 'get', name], { cwd: home })).stdout.trim()
  const [registry, cache] = await Promise.all(['registry', 'cache'].map(setting))
  return { ...strangersEnv(), HOME: home, npm_config_registry: registry, npm_config_cache: cache }
}

/** Every file below a folder with its size and the time of its last change. */
async function snapshotOf(folder: string): Promise<readonly string[]> {
  const names = (await readdir(folder, { recursive: true })).sort()
  const facts = names.map(async (name) => {
    const { size, mtimeMs, mode } = await stat(join(folder, name))
    return `${name} ${size} ${mtimeMs} ${mode}`
  })
  return Promise.all(facts)
}

describe('the package, installed into an empty folder', () => {
  let base: string
  let project: string
  let home: string
  let messages: string
  let installed: readonly string[]
  const nodes: NodeProcess[] = []

  beforeAll(async () => {
    base = await mkdtemp(join(tmpdir(), 'peertune größer '))
    home = join(base, 'home')
    project = join(base, 'mein Ordner')
    await Promise.all([home, project].map((folder) => mkdir(folder)))
    const { tarball } = await packPackage(base)
    await rm(join(base, 'copy'), { recursive: true })
    const env = { ...(await npmEnv(home)), ONNXRUNTIME_NODE_INSTALL: 'skip' }
    const flags = ['--prefer-offline', '--no-audit', '--no-fund', '--no-update-notifier']
    const { stdout, stderr } = await run('npm', ['install', ...flags, tarball], { cwd: project, env })
    messages = stdout + stderr
    installed = await snapshotOf(join(project, 'node_modules/peertune'))
  })
  afterAll(async () => {
    for (const node of nodes) if (node.alive()) node.kill()
    await Promise.all(nodes.map((node) => node.exited))
    await rm(base, { recursive: true, force: true })
  })

  const bin = () => join(project, 'node_modules/.bin/peertune')
  const peertune = async (...args: string[]) =>
    (await run(process.execPath, [bin(), ...args], { cwd: project, env: strangersEnv() })).stdout

  async function start(config: string, bootstrap: readonly string[] = []): Promise<NodeProcess> {
    const node = await startNode({
      index: nodes.length,
      cli: bin(),
      config,
      bootstrap,
      logFile: join(base, `${nodes.length}.log`),
      startTimeoutMs: START_TIMEOUT_MS,
      cwd: project,
      env: strangersEnv()
    })
    nodes.push(node)
    return node
  }

  it('is installed without a word of warning', () => {
    // npm 11 and 12 list install scripts that nobody has approved; none is needed.
    const warnings = messages.split('\n').filter((line) => /warn|deprecated/i.test(line))
    expect(warnings.filter((line) => !/install-scripts|allow-scripts|does not support Node/.test(line))).toEqual([])
  })

  it('says its version, by npx and by the path of its command', async () => {
    const { version } = JSON.parse(await readFile(join(project, 'node_modules/peertune/package.json'), 'utf8'))
    expect(await peertune('--version')).toBe(`${version}\n`)
    const npx = await run('npx', ['peertune', '--version'], { cwd: project, env: await npmEnv(home) })
    expect(npx.stdout).toBe(`${version}\n`)
    expect(await peertune('--help')).toContain('Usage: peertune')
  })

  it('finds what it needs: the runtime, the model that ships, its own exports', async () => {
    expect(await peertune('doctor')).toMatch(/^ok +training +a small graph runs on the CPU$/m)
    const model = join(project, 'node_modules/peertune/models/glyphs/model.onnx')
    expect(await peertune('inspect', model)).toMatch(/^family +ViT$/m)
    const program = "import('peertune').then(({ createNode }) => console.log(typeof createNode))"
    const { stdout } = await run(process.execPath, ['--eval', program], { cwd: project, env: strangersEnv() })
    expect(stdout).toBe('function\n')
  })

  it('runs two nodes on the examples that find each other and mix', async () => {
    for (const folder of ['examples', 'models']) {
      await cp(join(project, 'node_modules/peertune', folder), join(project, folder), { recursive: true })
    }
    const first = await start('examples/a.yaml')
    const second = await start('examples/b.yaml', first.multiaddrs)
    const mixed = await until(second, (status) => status.exchanges.completed >= 1)
    expect(mixed.peers).toMatchObject([{ peerId: (await statusOf(first)).peerId, sameFederation: true }])
    for (const { pid } of nodes) process.kill(pid, 'SIGTERM')
    expect(await Promise.all(nodes.map((node) => node.exited))).toEqual(['exit code 143', 'exit code 143'])
    expect(await readdir(join(project, '.peertune'))).toEqual(['a', 'b'])
  })

  it('has written nothing where it is installed', async () => {
    expect(await snapshotOf(join(project, 'node_modules/peertune'))).toEqual(installed)
  })
})
