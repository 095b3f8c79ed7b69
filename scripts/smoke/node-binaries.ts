import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { cp, mkdir, readFile, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { PeertuneError } from '../../src/base/errors.js'

const MANIFEST = 'package.json'
const LOCK = 'package-lock.json'

/**
 * Paths of the Node.js binaries that `tools` (tools/nodes) names for this platform, installed once into `cache` for each
 * state of its lock file. Throws `smoke/no-nodes`.
 */
export async function nodeBinaries(tools: string, cache: string): Promise<string[]> {
  const platform = `${process.platform}-${process.arch}-`
  const { optionalDependencies } = JSON.parse(await readFile(join(tools, MANIFEST), 'utf8')) as {
    readonly optionalDependencies: Readonly<Record<string, string>>
  }
  const names = Object.keys(optionalDependencies).filter((name) => name.startsWith(platform))
  if (names.length === 0)
    throw new PeertuneError(
      'smoke/no-nodes',
      `the npm registry has no Node.js for ${process.platform}-${process.arch}`,
      {
        hint: 'Run the smoke test with each Node.js that you have, without --every-node'
      }
    )
  const folder = await installed(tools, cache)
  return names.map((name) => join(folder, 'node_modules', name, 'bin', 'node'))
}

/** Whole or not at all: two that install at once do not meet half a folder. */
async function installed(tools: string, cache: string): Promise<string> {
  const lock = await readFile(join(tools, LOCK))
  const folder = join(cache, `nodes-${createHash('sha256').update(lock).digest('hex').slice(0, 16)}`)
  if (existsSync(folder)) return folder
  const unfinished = `${folder}.${process.pid}`
  try {
    await mkdir(unfinished, { recursive: true })
    for (const file of [MANIFEST, LOCK]) await cp(join(tools, file), join(unfinished, file))
    // With its prefix in words: below `npm run` it would install into the package that it was called from.
    const flags = ['--ignore-scripts', '--no-audit', '--no-fund', '--prefix', unfinished]
    await promisify(execFile)('npm', ['ci', ...flags], { cwd: unfinished })
    await rename(unfinished, folder)
  } catch (error) {
    if (!existsSync(folder)) throw error
  } finally {
    await rm(unfinished, { recursive: true, force: true })
  }
  return folder
}
