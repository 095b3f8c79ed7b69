import { PeertuneError } from '../base/errors.js'
import type { BatchTensor } from '../data/batches/batch.js'
import type { Graph } from '../onnx/graph/graph.js'
import { createSession, type ExecutionDevice, type Session, type SessionTensor } from '../onnx/runtime/session.js'
import { type ParameterSchema, viewOf } from '../tensor/schema.js'
import type { Shape } from '../tensor/schema.js'

/** Graph input int64[count] of programs that compute some rows of the logits alone. */
export const OUTPUT_ROWS = 'output_rows'

export type InputTensors = Readonly<Record<string, BatchTensor>>
export type InputShapes = Readonly<Record<string, Shape>>

/** The forward pass for one shape of batch, with its trained parameters as inputs. */
export interface ForwardProgram {
  readonly graph: Graph
  /** Output with the logits. */
  readonly logits: string
}

export interface ForwardOptions {
  readonly schema: ParameterSchema
  readonly parameters: Float32Array
  readonly externalDir: string
  readonly device: ExecutionDevice
  readonly threads: number
  /** `rows`: of the logits, seen as a matrix, so many rows alone. */
  build(shapes: InputShapes, rows: number | undefined): Promise<ForwardProgram>
}

/** A model with trained parameters in it, for any shape of batch. */
export interface Forward {
  /** Logits; `rows` names those that are wanted, the others are not computed. Throws `onnx/*`. */
  run(inputs: InputTensors, rows?: readonly number[]): Promise<SessionTensor & { readonly type: 'float32' }>
  close(): Promise<void>
}

/** Sessions kept: lengths of text come in few buckets. */
const MAX_SESSIONS = 8

interface Compiled extends ForwardProgram {
  readonly session: Session
}

/** Builds a graph for each shape once; the least recently used is let go of beyond a bound. */
export function createForward(options: ForwardOptions): Forward {
  const { schema, parameters, externalDir, device, threads } = options
  const compiled = new Map<string, Promise<Compiled>>()
  const feeds = Object.fromEntries(
    schema.entries.map((entry) => [
      entry.name,
      { type: 'float32', shape: entry.shape, data: viewOf(parameters, entry) } as const
    ])
  )
  const compile = async (shapes: InputShapes, rows: number | undefined): Promise<Compiled> => {
    const program = await options.build(shapes, rows)
    // The graph is canonical: the runtime's own rewriting would only make it start later.
    const session = await createSession(program.graph, { externalDir, device, threads, optimization: 'disabled' })
    return { ...program, session }
  }
  const release = async (one: Promise<Compiled> | undefined) => (await one?.catch(() => undefined))?.session.release()
  const sessionFor = async (shapes: InputShapes, rows: number | undefined): Promise<Compiled> => {
    const key = JSON.stringify([shapes, rows])
    const found = compiled.get(key) ?? compile(shapes, rows)
    compiled.delete(key)
    compiled.set(key, found)
    const [oldest] = compiled.keys()
    if (compiled.size > MAX_SESSIONS && oldest !== undefined) {
      const old = compiled.get(oldest)
      compiled.delete(oldest)
      await release(old)
    }
    return found
  }
  return {
    async run(inputs, rows) {
      const shapes = Object.fromEntries(Object.entries(inputs).map(([name, { shape }]) => [name, shape]))
      const { session, logits } = await sessionFor(shapes, rows?.length)
      const picked =
        rows === undefined
          ? {}
          : { [OUTPUT_ROWS]: { type: 'int64', shape: [rows.length], data: Int32Array.from(rows) } as const }
      const { [logits]: result } = await session.run({ ...inputs, ...feeds, ...picked }, [logits])
      if (result?.type === 'float32') return result
      throw new PeertuneError('infer/no-logits', `output ${logits} is no float32 tensor`, { facts: { output: logits } })
    },
    async close() {
      const open = [...compiled.values()]
      compiled.clear()
      for (const one of open) await release(one)
    }
  }
}
