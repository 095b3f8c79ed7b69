import type { Graph } from './graph.js'
import { createSession, type ExecutionDevice, isDeviceInstalled } from './session.js'

/** What `auto` tries before the CPU. Measured on the CPU alone; the others prove themselves on a small product first. */
const AUTO_CANDIDATES: Readonly<Partial<Record<NodeJS.Platform, readonly ExecutionDevice[]>>> = {
  linux: ['cuda'],
  win32: ['dml']
}

export interface DeviceChoice {
  readonly used: ExecutionDevice
  /** Why it is not the one asked for. */
  readonly reason?: string
}

export interface ChooseOptions {
  readonly platform?: NodeJS.Platform
  readonly probe?: (device: ExecutionDevice) => Promise<void>
}

/**
 * The first device that runs a small product as it should, the CPU at last: a driver that is absent, broken or wrong is
 * found here and not in the middle of training. Run it in the trainer's own process, as a bad driver can end it.
 */
export async function chooseDevice(
  wanted: ExecutionDevice | 'auto',
  { platform = process.platform, probe = probeDevice }: ChooseOptions = {}
): Promise<DeviceChoice> {
  const candidates = wanted === 'auto' ? (AUTO_CANDIDATES[platform] ?? []) : [wanted]
  const failures: string[] = []
  for (const device of candidates) {
    if (device === 'cpu') return { used: 'cpu' }
    try {
      await probe(device)
      return { used: device }
    } catch (error) {
      failures.push(`${device}: ${error instanceof Error ? error.message : String(error)}`)
    }
  }
  return failures.length === 0 ? { used: 'cpu' } : { used: 'cpu', reason: failures.join('; ') }
}

const PROBE: Graph = {
  name: 'device probe',
  opsets: { '': 20 },
  inputs: [
    { name: 'a', type: 'float32', shape: [2, 3] },
    { name: 'b', type: 'float32', shape: [3, 2] }
  ],
  outputs: [{ name: 'c', type: 'float32', shape: [2, 2] }],
  nodes: [{ op: 'MatMul', domain: '', name: 'c', inputs: ['a', 'b'], outputs: ['c'], attributes: {} }],
  initializers: new Map(),
  values: new Map()
}
/** [[1, 2, 3], [4, 5, 6]] times [[0.5, -1], [2, 0.25], [-3, 1]]: exact in every float format. */
const PROBE_RESULT = [-4.5, 2.5, -6, 3.25]

async function probeDevice(device: ExecutionDevice): Promise<void> {
  if (!isDeviceInstalled(device)) throw new Error('this installation of onnxruntime-node has no code for it')
  const session = await createSession(PROBE, { device })
  try {
    const { c } = await session.run({
      a: { type: 'float32', shape: [2, 3], data: Float32Array.of(1, 2, 3, 4, 5, 6) },
      b: { type: 'float32', shape: [3, 2], data: Float32Array.of(0.5, -1, 2, 0.25, -3, 1) }
    })
    if (!PROBE_RESULT.every((value, index) => c?.data[index] === value))
      throw new Error('wrong product of two matrices')
  } finally {
    await session.release()
  }
}
