import { createHash, randomUUID } from 'node:crypto'
import { copyFileSync, linkSync, mkdirSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import type { Shape } from '../../tensor/schema.js'
import type { Graph, Initializer } from '../graph/graph.js'
import { inlineInt8, type Int8Weight } from './products.js'
import { type Int8Matrix, quantiseMatrix } from './weight.js'
import { readWeight } from '../file/weights.js'

/** The int8 forms of one model's matrices, kept in files for all processes of this machine. */
export interface Int8Store {
  /** Folder of the files that external initializers of a graph with int8 matrices name. */
  readonly directory: string
  /** Made when first asked for, by whoever comes first; read from its file after that. */
  weight(matrix: Initializer, transposed: boolean): Int8Weight
  /** The graph's other external files, in this folder, too: the runtime looks in one folder only. */
  adopt(graph: Graph): void
}

export interface Int8StoreOptions {
  readonly directory: string
  /** Folder of the files that the model's own external initializers name. */
  readonly externalDir: string
  /** Largest code; see int8-probe.ts. */
  readonly largest: number
}

export function createInt8Store({ directory, externalDir, largest }: Int8StoreOptions): Int8Store {
  const made = new Map<string, Int8Weight>()
  const make = (matrix: Initializer, transposed: boolean): Int8Weight => {
    const [rows = 1, columns = 1] = matrix.shape
    const shape = transposed ? [columns, rows] : [rows, columns]
    const quantised = () => quantiseMatrix(readWeight(matrix, externalDir), { rows, columns, transposed, largest })
    const name = `${matrix.name}.int8${transposed ? '.transposed' : ''}`
    if (matrix.data.kind === 'inline') return inlineInt8(name, { ...quantised(), shape })
    const { location, offset } = matrix.data
    const file = fileName([location, offset, ...shape, transposed, largest])
    const path = join(directory, file)
    const bytes = rows * columns + (shape[1] as number) * Float32Array.BYTES_PER_ELEMENT
    if (sizeOf(path) !== bytes) writeMatrix(path, quantised())
    return externalInt8(name, file, shape)
  }
  return {
    directory,
    weight(matrix, transposed) {
      const key = `${transposed} ${matrix.name}`
      const known = made.get(key) ?? make(matrix, transposed)
      made.set(key, known)
      return known
    },
    adopt(graph) {
      for (const { data } of graph.initializers.values())
        if (data.kind === 'external') adoptFile(data.location, { externalDir, directory })
    }
  }
}

const fileName = (identity: readonly unknown[]): string =>
  `${createHash('sha256').update(JSON.stringify(identity)).digest('hex').slice(0, 32)}.int8`

const sizeOf = (path: string): number | undefined => statSync(path, { throwIfNoEntry: false })?.size

/** Codes, then scales. Whole or not at all, whoever else writes the same. */
function writeMatrix(path: string, { codes, scales }: Int8Matrix): void {
  mkdirSync(dirname(path), { recursive: true })
  const temporary = `${path}.${process.pid}.${randomUUID()}.tmp`
  try {
    writeFileSync(temporary, Buffer.concat([bytesOf(codes), bytesOf(scales)]))
    renameSync(temporary, path)
  } finally {
    rmSync(temporary, { force: true })
  }
}

const bytesOf = ({ buffer, byteOffset, byteLength }: ArrayBufferView): Uint8Array =>
  new Uint8Array(buffer, byteOffset, byteLength)

function externalInt8(name: string, location: string, shape: Shape): Int8Weight {
  const [inner = 1, outer = 1] = shape
  const length = inner * outer
  return {
    codes: { name, type: 'int8', shape, data: { kind: 'external', location, offset: 0, length } },
    scales: {
      name: `${name}.scales`,
      type: 'float32',
      shape: [outer],
      data: { kind: 'external', location, offset: length, length: outer * Float32Array.BYTES_PER_ELEMENT }
    }
  }
}

/** A second name for the file where the file system has those, else a copy. */
function adoptFile(location: string, { externalDir, directory }: Pick<Int8StoreOptions, 'externalDir' | 'directory'>) {
  const [from, to] = [join(externalDir, location), join(directory, location)]
  if (sizeOf(to) !== undefined) return
  mkdirSync(dirname(to), { recursive: true })
  try {
    linkSync(from, to)
  } catch {
    const temporary = `${to}.${process.pid}.${randomUUID()}.tmp`
    copyFileSync(from, temporary)
    renameSync(temporary, to)
  }
}
