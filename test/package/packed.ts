import { execFileSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { cp, mkdir, readFile, writeFile } from 'node:fs/promises'
import { basename, join, relative, sep } from 'node:path'
import { fileURLToPath } from 'node:url'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))
const BUILT = join('dist', 'src') + sep
/** Never packed, and large. */
const LEFT_BEHIND = ['node_modules', '.git']

export interface Packed {
  readonly tarball: string
  /** Paths below the package's root. */
  readonly files: readonly string[]
  /** The checkout as it was packed. */
  readonly copy: string
}

interface PackReport {
  readonly filename: string
  readonly files: readonly { readonly path: string }[]
}

/** The environment without what the npm that runs these tests has put there for its own project. */
export const withoutNpm = (): NodeJS.ProcessEnv =>
  Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^npm_/i.test(name)))

/**
 * `npm pack` of what is built, from a copy below `folder`: some versions of npm run `prepare` even with --ignore-scripts,
 * and that would build anew under the feet of tests that run.
 */
export async function packPackage(folder: string): Promise<Packed> {
  const copy = join(folder, 'copy')
  await mkdir(copy)
  await cp(ROOT, copy, { recursive: true, filter: isCopied })
  await withoutPrepare(join(copy, 'package.json'))
  const args = ['pack', '--json', '--ignore-scripts', '--pack-destination', folder]
  const output = execFileSync('npm', args, { cwd: copy, env: withoutNpm(), stdio: ['ignore', 'pipe', 'pipe'] })
  const { filename, files } = reportOf(JSON.parse(output.toString()))
  return { tarball: join(folder, filename), files: files.map(({ path }) => path), copy }
}

/** What an earlier build left of sources that are gone stays behind: `prepack` removes it before a package is made. */
function isCopied(path: string): boolean {
  const inRoot = relative(ROOT, path)
  if (!inRoot.startsWith(BUILT)) return !LEFT_BEHIND.includes(basename(path))
  const source = join(ROOT, inRoot.slice('dist/'.length))
  return existsSync(source) || existsSync(source.replace(/\.(js|js\.map|d\.ts)$/, '.ts'))
}

/** npm up to 11 lists packages, npm 12 names them. */
function reportOf(output: readonly PackReport[] | Readonly<Record<string, PackReport>>): PackReport {
  const [report] = Object.values(output)
  if (report === undefined) throw new Error('npm pack has packed nothing')
  return report
}

async function withoutPrepare(path: string): Promise<void> {
  const manifest = JSON.parse(await readFile(path, 'utf8')) as { scripts: Record<string, string> }
  const { prepare: _, ...scripts } = manifest.scripts
  await writeFile(path, JSON.stringify({ ...manifest, scripts }, null, 2))
}
