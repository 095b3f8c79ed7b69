import type { DeviceAnswer, DeviceFailure } from './device-probe.js'
import type { ExecutionDevice } from './session.js'

/** What `auto` tries before the CPU. WebGPU and CoreML are used only where they are asked for: nobody measured them. */
const AUTO_CANDIDATES: Readonly<Partial<Record<NodeJS.Platform, readonly ExecutionDevice[]>>> = {
  linux: ['cuda'],
  win32: ['cuda', 'dml']
}

export interface DeviceChoice {
  readonly used: ExecutionDevice
  /** Why it is not the one asked for, or why no faster one is used. */
  readonly reason?: string
  /** Of a small graph's nodes, how many the device itself ran; only where it is not the CPU. */
  readonly nodeShare?: number
}

export type Probe = (device: ExecutionDevice) => Promise<DeviceAnswer | DeviceFailure>

export interface ChooseOptions {
  readonly platform?: NodeJS.Platform
  /** Runs a small graph on a device; see device-probe.ts, and node/model/probe-child.ts for the process around it. */
  readonly probe: Probe
}

/**
 * The first device that answers a small graph as the CPU does, the CPU at last: a driver that is absent, broken or wrong
 * is found here and not in the middle of training.
 */
export async function chooseDevice(
  wanted: ExecutionDevice | 'auto',
  { platform = process.platform, probe }: ChooseOptions
): Promise<DeviceChoice> {
  const candidates = wanted === 'auto' ? (AUTO_CANDIDATES[platform] ?? []) : [wanted]
  const failures: string[] = []
  for (const device of candidates) {
    if (device === 'cpu') return { used: 'cpu' }
    const answer = await probe(device)
    if (answer.kind === 'works') return { used: device, nodeShare: answer.nodeShare }
    failures.push(`${device}: ${answer.reason}`)
  }
  return failures.length === 0 ? { used: 'cpu' } : { used: 'cpu', reason: failures.join('; ') }
}
