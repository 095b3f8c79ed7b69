import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { mkdir, readFile, stat } from 'node:fs/promises'
import { dirname, join, resolve, sep } from 'node:path'
import { PeertuneError } from '../../base/errors.js'
import { homeFolder } from '../../base/home.js'
import { readModel } from '../../onnx/file/read.js'
import { writePrivateFile } from '../host/private-file.js'

/**
 * SHA-256 (hex) of the .onnx file and then, where its weights lie beside it, of the files it names, in alphabetical
 * order: the number in the federation manifest. Throws `onnx/not-a-model` for a file that is no model, and
 * `onnx/missing-weights` and `onnx/weights-outside` for weights that are not where they should be.
 */
export async function modelSha256(path: string, { cacheDir = hashCacheDir() }: HashOptions = {}): Promise<string> {
  const files = [path, ...(await weightFiles(path))]
  const record = await recordOf(files, cacheDir)
  const known = record === undefined ? undefined : await readFile(record, 'utf8').catch(() => undefined)
  if (known !== undefined && SHA256.test(known)) return known
  const hash = await digestOf(path, files)
  // Written while the files changed, the record would be of neither state: it is made for what they were before.
  if (record !== undefined && record === (await recordOf(files, cacheDir))) await remember(record, hash)
  return hash
}

export interface HashOptions {
  /** Where hashes of big files are kept. */
  readonly cacheDir?: string
}

/** Megabytes are hashed in no time; gigabytes are not, and a node and its trainer both ask. */
const WORTH_REMEMBERING_BYTES = 32 * 2 ** 20
const SHA256 = /^[0-9a-f]{64}$/

const hashCacheDir = (): string =>
  join(process.env.XDG_CACHE_HOME ?? join(homeFolder(process.env), '.cache'), 'peertune', 'hashes')

/**
 * The file that remembers the hash of exactly these files: a name made of where they are, their sizes and when they last
 * changed. The time of change (ctime) cannot be set back as that of modification can.
 */
async function recordOf(files: readonly string[], cacheDir: string): Promise<string | undefined> {
  const states = await Promise.all(files.map((file) => stat(file, { bigint: true }).catch(() => undefined)))
  const total = states.reduce((sum, state) => sum + (state?.size ?? 0n), 0n)
  if (states.includes(undefined) || total < WORTH_REMEMBERING_BYTES) return undefined
  const facts = states.map((state) => [state?.dev, state?.ino, state?.size, state?.mtimeNs, state?.ctimeNs].join(' '))
  const name = createHash('sha256')
    .update([...files.map((file) => resolve(file)), ...facts].join('\n'))
    .digest('hex')
  return join(cacheDir, name)
}

/** A cache that cannot be written costs time and nothing else. */
async function remember(record: string, hash: string): Promise<void> {
  await mkdir(dirname(record), { recursive: true })
    .then(() => writePrivateFile(record, hash))
    .catch(() => undefined)
}

async function digestOf(path: string, files: readonly string[]): Promise<string> {
  const digest = createHash('sha256')
  for (const file of files) {
    try {
      for await (const chunk of createReadStream(file)) digest.update(chunk as Buffer)
    } catch (cause) {
      throw new PeertuneError('onnx/missing-weights', `${path}: its weights file ${file} cannot be read`, {
        facts: { path, file },
        hint: 'keep the .onnx file and its data file in one folder, under the names they were exported with',
        cause
      })
    }
  }
  return digest.digest('hex')
}

/** Where a model says that its weights lie, in alphabetical order; nothing is known of whether they do. */
export async function weightLocations(path: string): Promise<string[]> {
  const { initializers } = await readModel(path)
  const named = [...initializers.values()].flatMap(({ data }) => (data.kind === 'external' ? [data.location] : []))
  return [...new Set(named)].sort()
}

/** The external data files a model names, which must lie in its own folder. */
async function weightFiles(path: string): Promise<string[]> {
  const folder = dirname(resolve(path))
  return (await weightLocations(path)).map((location) => {
    const file = resolve(folder, location)
    if (file.startsWith(folder.endsWith(sep) ? folder : folder + sep)) return file
    throw new PeertuneError('onnx/weights-outside', `${path}: expected weights beside the model, got ${location}`, {
      facts: { path, location },
      hint: 'export the model with its data file in the folder of the .onnx file'
    })
  })
}
