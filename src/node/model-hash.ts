import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { dirname, resolve, sep } from 'node:path'
import { PeertuneError } from '../base/errors.js'
import { readModel } from '../onnx/read.js'

/**
 * SHA-256 (hex) of the .onnx file and then, where its weights lie beside it, of the files it names, in alphabetical
 * order: the number in the federation manifest. Throws `onnx/not-a-model` for a file that is no model, and
 * `onnx/missing-weights` and `onnx/weights-outside` for weights that are not where they should be.
 */
export async function modelSha256(path: string): Promise<string> {
  const digest = createHash('sha256')
  for (const file of [path, ...(await weightFiles(path))]) {
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

/** The external data files a model names, which must lie in its own folder. */
async function weightFiles(path: string): Promise<string[]> {
  const folder = dirname(resolve(path))
  const graph = await readModel(path)
  const named = [...graph.initializers.values()].flatMap(({ data }) =>
    data.kind === 'external' ? [data.location] : []
  )
  return [...new Set(named)].sort().map((location) => {
    const file = resolve(folder, location)
    if (file.startsWith(folder.endsWith(sep) ? folder : folder + sep)) return file
    throw new PeertuneError('onnx/weights-outside', `${path}: expected weights beside the model, got ${location}`, {
      facts: { path, location }
    })
  })
}
