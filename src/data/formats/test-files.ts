import { basename, join } from 'node:path'
import { PeertuneError } from '../../base/errors.js'
import type { TensorsSpec } from '../spec.js'
import { tensorPlace } from './tensor-file.js'

type TensorNames = Pick<TensorsSpec, 'inputs' | 'labels'>

/**
 * The held-out counterpart of each file of a tensor source: the file of the same name in the folder `testPath`, or, where
 * `testPath` is a .safetensors file, the tensor of the same name in it. Throws `data/bad-test-path` where that says
 * nothing certain.
 */
export function testFilesOf({ inputs, labels }: TensorNames, testPath: string): TensorNames {
  const files = new Set([...Object.values(inputs), labels].map((name) => tensorPlace(name).path))
  const isFile = testPath.endsWith('.safetensors')
  if (isFile && files.size > 1)
    throw badTestPath(testPath, 'a folder, since inputs and labels come from several files', 'a file')
  const names = [...files].map((file) => basename(file))
  const twice = names.find((name, i) => names.indexOf(name) < i)
  if (twice !== undefined) throw badTestPath(testPath, 'inputs and labels in files of different names', `two ${twice}`)
  const counterpart = (name: string): string => {
    const { path, tensor } = tensorPlace(name)
    return `${isFile ? testPath : join(testPath, basename(path))}${tensor === undefined ? '' : `#${tensor}`}`
  }
  const renamed = Object.entries(inputs).map(([input, name]) => [input, counterpart(name)] as const)
  return { inputs: Object.fromEntries(renamed), labels: counterpart(labels) }
}

const badTestPath = (testPath: string, expected: string, got: string): PeertuneError =>
  new PeertuneError('data/bad-test-path', `testPath ${testPath}: expected ${expected}, got ${got}`, {
    facts: { testPath, expected, got }
  })
