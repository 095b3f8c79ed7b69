import { execFile } from 'node:child_process'
import { copyFile, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'

const SCRIPT = fileURLToPath(new URL('../../install/preinstall.js', import.meta.url))

/** What NuGet does, in words that `--import` takes. */
const UNREACHABLE = `globalThis.fetch = async (url) => { throw new TypeError('fetch failed', { cause: new Error('ENOTFOUND ' + new URL(url).host) }) }`
const REFUSING = `globalThis.fetch = async () => new Response('', { status: 403 })`
const REACHABLE = `globalThis.fetch = async () => Response.json({})`
const on = (platform: string, arch: string) =>
  `Object.defineProperties(process, { platform: { value: '${platform}' }, arch: { value: '${arch}' } })`

interface Case {
  readonly nuget?: string
  readonly machine?: string
  readonly env?: Readonly<Record<string, string>>
  /** Where the package lies in the project. */
  readonly at?: string
}

describe('the preinstall script', () => {
  let project: string

  beforeEach(async () => {
    project = await mkdtemp(join(tmpdir(), 'peertune-preinstall-'))
  })
  afterEach(() => rm(project, { recursive: true, force: true }))

  async function run({
    nuget = UNREACHABLE,
    machine = on('linux', 'x64'),
    env = {},
    at = 'node_modules/peertune'
  }: Case) {
    const folder = join(project, at)
    await mkdir(folder, { recursive: true })
    await writeFile(join(folder, 'package.json'), '{ "type": "module" }')
    await copyFile(SCRIPT, join(folder, 'preinstall.js'))
    const preload = `data:text/javascript,${encodeURIComponent(`${machine};${nuget}`)}`
    return new Promise<{ code: unknown; stderr: string }>((resolve) => {
      const options = { env: { npm_config_local_prefix: project, ...env } }
      execFile(process.execPath, ['--import', preload, join(folder, 'preinstall.js')], options, (error, _, stderr) =>
        resolve({ code: error?.code ?? 0, stderr })
      )
    })
  }

  it('names the way out where NuGet is out of reach', async () => {
    const { code, stderr } = await run({})
    expect(code).toBe(1)
    expect(stderr).toContain('out of reach (ENOTFOUND api.nuget.org)')
    expect(stderr).toContain('\n  ONNXRUNTIME_NODE_INSTALL=skip npm install ...\n')
    expect(await run({ nuget: REFUSING })).toMatchObject({ code: 1, stderr: expect.stringContaining('status 403') })
  })

  it.each<[string, Case]>([
    ['NuGet answers', { nuget: REACHABLE }],
    ['the operator has said what to fetch', { env: { ONNXRUNTIME_NODE_INSTALL: 'skip' } }],
    ['npm has been told', { env: { npm_config_onnxruntime_node_install: 'skip' } }],
    ['a proxy is set for the download', { env: { GLOBAL_AGENT_HTTPS_PROXY: 'http://proxy:8080' } }],
    ['nothing is fetched on this platform', { machine: on('darwin', 'arm64') }],
    ['it is a clone', { at: 'clone' }]
  ])('is silent where %s', async (_, one) => {
    expect(await run(one)).toEqual({ code: 0, stderr: '' })
  })

  it('is silent where the project denies the script that would fetch, or has what it fetches', async () => {
    await writeFile(join(project, 'package.json'), JSON.stringify({ allowScripts: { 'onnxruntime-node': false } }))
    expect(await run({})).toEqual({ code: 0, stderr: '' })

    await writeFile(join(project, 'package.json'), '{}')
    const libraries = join(project, 'node_modules/onnxruntime-node/bin/napi-v6/linux/x64')
    await mkdir(libraries, { recursive: true })
    await writeFile(join(project, 'node_modules/onnxruntime-node/package.json'), '{}')
    for (const name of ['cuda', 'shared']) await writeFile(join(libraries, `libonnxruntime_providers_${name}.so`), '')
    expect(await run({})).toMatchObject({ code: 1 })
    await writeFile(join(libraries, 'libonnxruntime_providers_tensorrt.so'), '')
    expect(await run({})).toEqual({ code: 0, stderr: '' })
  })
})
