import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { floatConstant } from '../graph/constant.js'
import type { Graph, Node, ValueInfo } from '../graph/graph.js'
import { plainNode } from '../graph/plain-node.js'
import { createSession, type ExecutionDevice, isDeviceInstalled } from './session.js'

/** What a device made of a small graph. */
export type DeviceAnswer =
  /** `nodeShare`: of the graph's nodes, how many the device itself ran; the others fell back to the CPU. */
  | { readonly kind: 'works'; readonly nodeShare: number; readonly largestDifference: number }
  | { readonly kind: 'not-installed' | 'refused' | 'wrong'; readonly reason: string }

/** What became of the process that asked. */
export interface DeviceFailure {
  readonly kind: 'timed-out' | 'died'
  readonly reason: string
}

/** Relative to the largest element. Devices may round products to 10 bits of mantissa (TF32) and be of use. */
const TOLERANCE = 1e-2

const ROWS = 4
const WIDTH = 8

/** A layer as in a transformer: norm, product, nonlinearity, product, softmax, sum. */
function probeGraph(): Graph {
  const wave = (count: number, step: number): Float32Array =>
    Float32Array.from({ length: count }, (_, i) => Math.sin(1 + i * step))
  const constants = [
    floatConstant('scale', new Float32Array(WIDTH).fill(1.5)),
    floatConstant('bias', wave(WIDTH, 0.3)),
    floatConstant('up', wave(WIDTH * 2 * WIDTH, 0.7), [WIDTH, 2 * WIDTH]),
    floatConstant('down', wave(2 * WIDTH * WIDTH, 1.1), [2 * WIDTH, WIDTH])
  ]
  const node = (op: string, inputs: readonly string[], attributes: Node['attributes'] = {}): Node =>
    plainNode(op, inputs, op.toLowerCase(), attributes)
  const x: ValueInfo = { name: 'x', type: 'float32', shape: [ROWS, WIDTH] }
  return {
    name: 'device probe',
    opsets: { '': 20 },
    inputs: [x],
    outputs: [{ name: 'add', type: 'float32', shape: [ROWS, WIDTH] }],
    nodes: [
      node('LayerNormalization', ['x', 'scale', 'bias']),
      node('MatMul', ['layernormalization', 'up']),
      node('Gelu', ['matmul']),
      node('Gemm', ['gelu', 'down']),
      node('Softmax', ['gemm'], { axis: { type: 'int', value: -1 } }),
      node('Add', ['softmax', 'x'])
    ],
    initializers: new Map(constants.map((constant) => [constant.name, constant])),
    values: new Map()
  }
}

/**
 * Runs a small graph on a device and on the CPU and compares. Let a child process do it: a bad driver can end the process
 * that asks it. Only the CPU has been tried by the authors; CUDA, WebGPU, CoreML and DirectML answer for themselves here.
 */
export async function probeDevice(device: ExecutionDevice): Promise<DeviceAnswer> {
  if (!isDeviceInstalled(device))
    return { kind: 'not-installed', reason: 'this installation of onnxruntime-node has no code for it' }
  const expected = (await runProbe('cpu')).values
  try {
    const { values, providers } = await runProbe(device)
    const largest = expected.reduce((max, value) => Math.max(max, Math.abs(value)), 0)
    const largestDifference = expected.reduce(
      (max, value, i) => Math.max(max, Math.abs(value - (values[i] as number))),
      0
    )
    if (!(largestDifference <= TOLERANCE * largest))
      return { kind: 'wrong', reason: `it differs from the CPU by ${largestDifference} of ${largest}` }
    const own = providers.filter((provider) => device === 'cpu' || provider !== 'CPUExecutionProvider')
    return { kind: 'works', nodeShare: own.length / Math.max(1, providers.length), largestDifference }
  } catch (error) {
    return { kind: 'refused', reason: (error instanceof Error ? error.message : String(error)).trim() }
  }
}

async function runProbe(device: ExecutionDevice) {
  const folder = await mkdtemp(join(tmpdir(), 'peertune-probe-'))
  try {
    const session = await createSession(probeGraph(), { device, profilePrefix: join(folder, 'profile') })
    const data = Float32Array.from({ length: ROWS * WIDTH }, (_, i) => Math.cos(i * 0.9) * 2)
    const { add } = await session.run({ x: { type: 'float32', shape: [ROWS, WIDTH], data } })
    session.endProfiling()
    await session.release()
    return { values: add?.data as Float32Array, providers: await providersIn(folder) }
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

interface ProfileEvent {
  readonly cat?: string
  readonly name?: string
  readonly args?: { readonly provider?: string }
}

/** The provider of every node that ran. */
async function providersIn(folder: string): Promise<string[]> {
  const [file] = await readdir(folder)
  if (file === undefined) return []
  const events = JSON.parse(await readFile(join(folder, file), 'utf8')) as ProfileEvent[]
  return events.flatMap(({ cat, name, args }) =>
    cat === 'Node' && name?.endsWith('_kernel_time') === true ? (args?.provider ?? []) : []
  )
}
