import { execFileSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { copyFile, mkdir, mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, dirname, join, posix } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { anchorsOf, linksOf } from './markdown.js'
import { type Packed, packPackage, withoutNpm } from './packed.js'

/** All that may be in the package. */
const SHIPPED: readonly RegExp[] = [
  /^(package\.json|(README|ARCHITECTURE|CHANGELOG|CONTRIBUTING)\.md|LICENSE)$/,
  /^dist\/src\/([a-z0-9-]+\/)*[a-z0-9_-]+\.(js|js\.map|d\.ts)$/,
  /^src\/([a-z0-9-]+\/)*[a-z0-9_-]+\.(ts|proto)$/,
  /^docs\/([a-z0-9-]+\/)*[a-z0-9-]+\.(md|json)$/,
  /^examples\/([a-z0-9-]+\/)*[a-z0-9-]+\.yaml$/,
  /^models\/glyphs\/(config\.json|model\.onnx)$/,
  /^install\/preinstall\.js$/
]
/** What nobody may miss, a few of each kind. */
const PRESENT = [
  'package.json',
  'README.md',
  'ARCHITECTURE.md',
  'CHANGELOG.md',
  'CONTRIBUTING.md',
  'LICENSE',
  'dist/src/index.js',
  'dist/src/index.d.ts',
  'dist/src/cli/main.js',
  'src/codec/wire/peertune.proto',
  'docs/wire-protocol.md',
  'docs/adapters.md',
  'examples/a.yaml',
  'examples/federation.yaml',
  'models/glyphs/config.json',
  'models/glyphs/model.onnx',
  'install/preinstall.js'
]

describe('the package', () => {
  let folder: string
  let packed: Packed
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'peertune-package-'))
    packed = await packPackage(folder)
  })
  afterAll(() => rm(folder, { recursive: true, force: true }))

  const read = (path: string) => readFile(join(packed.copy, path), 'utf8')
  /** Files, and the folders they lie in. */
  const places = () => new Set(packed.files.flatMap((file) => [file, ...foldersOf(file)]))
  const missingFrom = (wanted: readonly string[]) => wanted.filter((path) => !packed.files.includes(path))

  it('has what it is made of and nothing else', () => {
    expect(packed.files.filter((file) => !SHIPPED.some((pattern) => pattern.test(file)))).toEqual([])
    expect(missingFrom(PRESENT)).toEqual([])
  })

  it('is called what the README installs', async () => {
    expect(await read('README.md')).toContain(`npm install ${basename(packed.tarball)}\n`)
  })

  it('has every source built and nothing else that was', () => {
    const built = packed.files.filter((file) => file.startsWith('dist/'))
    const modules = packed.files
      .filter((file) => /^src\/.*\.ts$/.test(file))
      .map((file) => file.slice(0, -'.ts'.length))
    const expected = modules.flatMap((path) => ['.js', '.js.map', '.d.ts'].map((ending) => `dist/${path}${ending}`))
    expect(built.filter((file) => !expected.includes(file))).toEqual([])
    expect(missingFrom(expected)).toEqual([])
  })

  it('is built from nothing, so that what an earlier build left does not slip in', async () => {
    const project = join(folder, 'project')
    await mkdir(join(project, 'dist', 'src'), { recursive: true })
    await copyFile(join(packed.copy, 'package.json'), join(project, 'package.json'))
    execFileSync('npm', ['run', '--silent', 'prepack'], { cwd: project, env: withoutNpm() })
    expect(existsSync(join(project, 'dist'))).toBe(false)
  })

  it('has the source that each source map points to', async () => {
    const maps = packed.files.filter((file) => file.endsWith('.map'))
    const sources = await Promise.all(
      maps.map(async (map) => {
        const { sources, sourceRoot = '' } = JSON.parse(await read(map)) as { sources: string[]; sourceRoot?: string }
        return sources.map((source) => posix.join(dirname(map), sourceRoot, source))
      })
    )
    expect(sources.flat()).toHaveLength(maps.length)
    expect(missingFrom(sources.flat())).toEqual([])
  })

  it('has every place its documents link to', async () => {
    const broken: string[] = []
    const shipped = places()
    for (const file of packed.files.filter((path) => path.endsWith('.md'))) {
      for (const link of linksOf(await read(file))) {
        const [path, anchor] = link.split('#') as [string, string?]
        const target = path === '' ? file : posix.join(dirname(file), path).replace(/\/$/, '')
        const found = shipped.has(target) && (anchor === undefined || anchorsOf(await read(target)).has(anchor))
        if (!found) broken.push(`${file}: ${link}`)
      }
    }
    expect(broken).toEqual([])
  })
})

function foldersOf(path: string): string[] {
  const folder = dirname(path)
  return folder === '.' ? [] : [folder, ...foldersOf(folder)]
}
