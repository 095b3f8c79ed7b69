import { spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { entryUrl } from '../../base/entry.js'
import type { DeviceAnswer, DeviceFailure } from '../../onnx/runtime/device-probe.js'
import { type ExecutionDevice, isDeviceInstalled } from '../../onnx/runtime/session.js'

/** A driver that has not answered by then hangs; loading CUDA for the first time takes some seconds. */
const PROBE_TIMEOUT_MS = 20_000
/** Bytes of a probe's answer; more is no answer. */
const MAX_ANSWER_BYTES = 64 * 1024

export type ProbeResult = DeviceAnswer | DeviceFailure

export interface ProbeOptions {
  readonly entry?: URL | string
  readonly timeoutMs?: number
}

/** Asks one device in a process of its own, which a broken driver may end or hold up without harm. Never throws. */
export async function probeInChild(device: ExecutionDevice, options: ProbeOptions = {}): Promise<ProbeResult> {
  const { entry = entryUrl('node/model/probe-main.js'), timeoutMs = PROBE_TIMEOUT_MS } = options
  const path = entry instanceof URL ? fileURLToPath(entry) : entry
  return new Promise((resolve) => {
    const child = spawn(process.execPath, [path, device], {
      stdio: ['ignore', 'pipe', 'ignore'],
      timeout: timeoutMs,
      killSignal: 'SIGKILL',
      windowsHide: true
    })
    let text = ''
    child.stdout.setEncoding('utf8')
    child.stdout.on('data', (chunk: string) => {
      if (text.length < MAX_ANSWER_BYTES) text += chunk
    })
    child.once('error', (error) => resolve({ kind: 'died', reason: error.message }))
    child.once('close', (code, signal) =>
      resolve(answerIn(text) ?? failureOf(code, signal, { killed: child.killed, timeoutMs }))
    )
  })
}

function answerIn(text: string): DeviceAnswer | undefined {
  const line = text.trim().split('\n').at(-1) ?? ''
  try {
    const answer = JSON.parse(line) as DeviceAnswer
    return typeof answer.kind === 'string' ? answer : undefined
  } catch {
    return undefined
  }
}

function failureOf(
  code: number | null,
  signal: NodeJS.Signals | null,
  { killed, timeoutMs }: { readonly killed: boolean; readonly timeoutMs: number }
): DeviceFailure {
  if (killed) return { kind: 'timed-out', reason: `no answer in ${timeoutMs / 1000} s` }
  return { kind: 'died', reason: `its driver ended the process that asked it (${signal ?? `exit code ${code}`})` }
}

const known = new Map<ExecutionDevice, Promise<ProbeResult>>()

/** `probeInChild`, once for each device and process; a device that is not installed costs no process. */
export function probeOnce(device: ExecutionDevice): Promise<ProbeResult> {
  const before = known.get(device)
  if (before !== undefined) return before
  const result = isDeviceInstalled(device)
    ? probeInChild(device)
    : Promise.resolve({
        kind: 'not-installed',
        reason: 'this installation of onnxruntime-node has no code for it'
      } as const)
  known.set(device, result)
  return result
}
