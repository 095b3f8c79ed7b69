import { existsSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import './telemetry.js'
import { env, InferenceSession, listSupportedBackends, Tensor as OrtTensor } from 'onnxruntime-node'
import { PeertuneError } from '../../base/errors.js'
import type { Shape } from '../../tensor/schema.js'
import type { Dim, ElementType, Graph, ValueInfo } from '../graph/graph.js'
import { unshareDequantised } from '../int8/quantised.js'
import { writeModel } from '../file/write.js'

/** What runs a graph. Only `cpu` is sure to be there; see device.ts for the choice. */
export type ExecutionDevice = 'cpu' | 'cuda' | 'webgpu' | 'coreml' | 'dml'

/**
 * A tensor as it goes in and out of a session. Integers are Int32Array on this side whatever the graph declares
 * (int64, int32 or bool); the session widens and narrows them.
 */
export type SessionTensor =
  | { readonly type: 'float32'; readonly shape: Shape; readonly data: Float32Array }
  | { readonly type: 'int64'; readonly shape: Shape; readonly data: Int32Array }

export interface SessionOptions {
  readonly device?: ExecutionDevice
  /** Threads of one operator. */
  readonly threads?: number
  /** Folder of the files that external initializers name; required when the graph has any. */
  readonly externalDir?: string
  /** The runtime's own graph optimisation. `basic` folds constants; more gains nothing on our graphs. */
  readonly optimization?: 'disabled' | 'basic' | 'extended' | 'all'
  /**
   * Copies of the weights in the layout of the runtime's kernels. Off, they stay mapped from one file that all sessions
   * and processes share; float32 products of many rows gain nothing from it, 8-bit ones a tenth.
   */
  readonly prepack?: boolean
  /** Names of the runtime's own rewrites that are to be left out. */
  readonly withoutRewrites?: readonly string[]
  /** A growing pool for activations. Off saves memory (up to a quarter) and costs 10 to 30 % time. */
  readonly arena?: boolean
  /** Where to save the optimised graph (see canonicalise.ts). */
  readonly optimizedModelPath?: string
  /** Writes down what ran where, in a file whose path starts like this, until `endProfiling`. */
  readonly profilePrefix?: string
}

export interface Session {
  readonly inputs: readonly ValueInfo[]
  readonly outputs: readonly ValueInfo[]
  /**
   * Runs the whole graph; blocks this thread until done. `fetches`: names to return, or float32 tensors to be filled in
   * place (their `data` may be views of one flat vector); all outputs when left out. Throws `onnx/run-failed`.
   */
  run(
    feeds: Readonly<Record<string, SessionTensor>>,
    fetches?: readonly string[] | Readonly<Record<string, SessionTensor | null>>
  ): Promise<Record<string, SessionTensor>>
  /** Closes the profile that `profilePrefix` began. */
  endProfiling(): void
  /** Frees the runtime's memory. Idempotent. */
  release(): Promise<void>
}

/** Files that onnxruntime-node's install script fetches for CUDA, and that are absent where it was not run. */
const CUDA_LIBRARIES = ['libonnxruntime_providers_cuda.so', 'onnxruntime_providers_cuda.dll']

/**
 * Whether this installation of the runtime has code for a device at all; whether the machine has the device is another
 * question. Asked before the runtime is, as it prints its own failures to stderr.
 */
export function isDeviceInstalled(device: ExecutionDevice): boolean {
  if (!listSupportedBackends().some(({ name }) => name === device)) return false
  if (device !== 'cuda') return true
  const root = dirname(createRequire(import.meta.url).resolve('onnxruntime-node/package.json'))
  const binaries = join(root, 'bin', 'napi-v6', process.platform, process.arch)
  return CUDA_LIBRARIES.some((file) => existsSync(join(binaries, file)))
}

/** Warnings of the runtime (unused initializers and the like) are no news to the operator; errors throw. */
const LOG_FATAL_ONLY = 4

/** Version of onnxruntime-node, and the backends that this installation lists. */
export const runtimeFacts = () => ({
  version: env.versions.node ?? env.versions.common,
  backends: listSupportedBackends()
})

/** Builds a session over a graph or model bytes. Throws `onnx/session-failed` with the runtime's own words. */
export async function createSession(model: Graph | Uint8Array, options: SessionOptions = {}): Promise<Session> {
  const bytes = model instanceof Uint8Array ? model : writeModel(unshareDequantised(model))
  const name = model instanceof Uint8Array ? 'model bytes' : model.name
  try {
    return wrapSession(await InferenceSession.create(bytes, runtimeOptions(options)), name)
  } catch (cause) {
    throw new PeertuneError('onnx/session-failed', `onnxruntime refused ${name}: ${messageOf(cause)}`, {
      facts: { name, device: options.device ?? 'cpu' },
      cause
    })
  }
}

function runtimeOptions(options: SessionOptions): InferenceSession.SessionOptions {
  const { device = 'cpu', threads = 1, externalDir, optimization = 'basic', arena = true, prepack = false } = options
  const { optimizedModelPath, profilePrefix, withoutRewrites = [] } = options
  return {
    executionProviders: [device],
    intraOpNumThreads: threads,
    interOpNumThreads: 1,
    // Parallel execution spins on twice the CPU for no gain on these graphs.
    executionMode: 'sequential',
    graphOptimizationLevel: optimization,
    enableCpuMemArena: arena,
    // A planned block comes on top of what the first run took from the arena: off, activations cost half, time the same.
    enableMemPattern: false,
    logSeverityLevel: LOG_FATAL_ONLY,
    ...(optimizedModelPath === undefined ? {} : { optimizedModelFilePath: optimizedModelPath }),
    ...(profilePrefix === undefined ? {} : { enableProfiling: true, profileFilePrefix: profilePrefix }),
    extra: {
      ...(withoutRewrites.length > 0 && { optimization: { disable_specified_optimizers: withoutRewrites.join(';') } }),
      session: {
        disable_prepacking: prepack ? '0' : '1',
        ...(externalDir === undefined ? {} : { model_external_initializers_file_folder_path: externalDir })
      }
    }
  }
}

function wrapSession(session: InferenceSession, name: string): Session {
  const inputs = session.inputMetadata.map(valueInfoOf)
  const inputTypes = new Map(inputs.map((input) => [input.name, input.type]))
  let released = false
  return {
    inputs,
    get outputs() {
      return session.outputMetadata.map(valueInfoOf)
    },
    async run(feeds, fetches) {
      const ortFeeds = mapRecord(feeds, (tensor, input) => toRuntime(tensor, inputTypes.get(input)))
      try {
        const results =
          fetches === undefined ? await session.run(ortFeeds) : await session.run(ortFeeds, toFetches(fetches))
        return mapRecord(results, fromRuntime)
      } catch (cause) {
        throw new PeertuneError('onnx/run-failed', `${name}: ${messageOf(cause)}`, { facts: { name }, cause })
      }
    },
    endProfiling: () => session.endProfiling(),
    async release() {
      if (released) return
      released = true
      await session.release()
    }
  }
}

const toFetches = (fetches: readonly string[] | Readonly<Record<string, SessionTensor | null>>) =>
  isNames(fetches) ? fetches : mapRecord(fetches, (tensor) => tensor && toRuntime(tensor, tensor.type))

const isNames = (fetches: readonly string[] | Readonly<Record<string, unknown>>): fetches is readonly string[] =>
  Array.isArray(fetches)

const mapRecord = <A, B>(record: Readonly<Record<string, A>>, map: (value: A, key: string) => B): Record<string, B> =>
  Object.fromEntries(Object.entries(record).map(([key, value]) => [key, map(value, key)]))

function toRuntime(tensor: SessionTensor, declared: ElementType | undefined): OrtTensor {
  const { data, shape } = tensor
  if (data instanceof Float32Array) return new OrtTensor('float32', data, shape)
  if (declared === 'int32') return new OrtTensor('int32', data, shape)
  if (declared === 'bool') return new OrtTensor('bool', Uint8Array.from(data), shape)
  return new OrtTensor('int64', widen(data), shape)
}

/** Sign-extends on 32-bit halves: BigInt per element would cost a hundred times more. */
function widen(narrow: Int32Array): BigInt64Array {
  const wide = new BigInt64Array(narrow.length)
  const halves = new Int32Array(wide.buffer)
  for (let i = 0; i < narrow.length; i++) {
    const value = narrow[i] as number
    halves[2 * i] = value
    halves[2 * i + 1] = value >> 31
  }
  return wide
}

function fromRuntime(value: InferenceSession.ReturnType[string], name: string): SessionTensor {
  const { data, dims: shape } = value as OrtTensor
  if (data instanceof Float32Array) return { type: 'float32', shape, data }
  if (data instanceof BigInt64Array) return { type: 'int64', shape, data: Int32Array.from(data, Number) }
  if (data instanceof Int32Array || data instanceof Uint8Array)
    return { type: 'int64', shape, data: Int32Array.from(data) }
  throw new PeertuneError('onnx/unsupported-element-type', `output ${name} is neither float32 nor an integer`, {
    facts: { name, type: value.type }
  })
}

const valueInfoOf = (metadata: InferenceSession.ValueMetadata): ValueInfo => {
  // What the runtime says also of a tensor whose number of axes it cannot tell.
  if (!metadata.isTensor)
    throw new PeertuneError('onnx/no-shape', `${metadata.name} is no tensor of a known number of axes`, {
      facts: { value: metadata.name }
    })
  return { name: metadata.name, type: metadata.type as ElementType, shape: metadata.shape as readonly Dim[] }
}

const messageOf = (cause: unknown): string => (cause instanceof Error ? cause.message : String(cause))
