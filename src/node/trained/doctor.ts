import { access, constants, statfs, writeFile, rm } from 'node:fs/promises'
import { availableParallelism, cpus, freemem, totalmem } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { type Clock, systemClock } from '../../base/clock.js'
import { chooseDevice, type DeviceChoice } from '../../onnx/runtime/device.js'
import { type ExecutionDevice, runtimeFacts } from '../../onnx/runtime/session.js'
import { complaintAboutNode } from '../host/node-range.js'
import { type ProbeResult, probeOnce } from '../model/probe-child.js'

export interface Check {
  readonly name: string
  /** `warn`: it will run, worse than it could. `fail`: it will not. */
  readonly state: 'ok' | 'warn' | 'fail'
  readonly sentence: string
}

export interface DeviceReport {
  readonly device: ExecutionDevice
  readonly answer: ProbeResult
  readonly chosen: boolean
  /** Time of the whole probe, the process's start among it. */
  readonly elapsedMs: number
}

export interface DoctorReport {
  readonly checks: readonly Check[]
  readonly devices: readonly DeviceReport[]
  /** What `device: auto` comes to. */
  readonly auto: DeviceChoice
}

export interface DoctorOptions {
  readonly dataDir: string
  readonly clock?: Clock
  readonly probe?: (device: ExecutionDevice) => Promise<ProbeResult>
}

const DEVICES: readonly ExecutionDevice[] = ['cpu', 'cuda', 'webgpu', 'coreml', 'dml']
/** Megabytes a node and its trainer want for the smallest models. */
const LEAST_MEMORY_MB = 512
const LEAST_DISK_MB = 512
const MEGABYTE = 2 ** 20
/** Milliseconds since the epoch of 2025-01-01: no clock that is right shows less. */
const NEWER_THAN_MS = Date.UTC(2025, 0, 1)

/** Looks at everything a node needs from its machine. Throws nothing that a check can say. */
export async function examine({
  dataDir,
  clock = systemClock,
  probe = probeOnce
}: DoctorOptions): Promise<DoctorReport> {
  const auto = await chooseDevice('auto', { probe })
  const devices: DeviceReport[] = []
  for (const device of DEVICES) {
    const start = clock.now()
    const answer = await probe(device)
    devices.push({ device, answer, chosen: device === auto.used, elapsedMs: Math.round(clock.now() - start) })
  }
  const checks = [
    nodeVersion(),
    runtime(),
    processor(),
    memory(),
    await writable(dataDir),
    await disk(dataDir),
    clockCheck(clock),
    cpuAnswer(devices)
  ]
  return { checks, devices, auto }
}

const check = (name: string, state: Check['state'], sentence: string): Check => ({ name, state, sentence })

function nodeVersion(): Check {
  const complaint = complaintAboutNode(process.versions.node)
  if (complaint === undefined) return check('node', 'ok', `Node.js ${process.versions.node}`)
  return check('node', complaint.kind === 'old' ? 'fail' : 'warn', complaint.sentence)
}

function runtime(): Check {
  const { version, backends } = runtimeFacts()
  const names = backends.map(({ name, bundled }) => (bundled ? name : `${name} (not bundled)`))
  return check('runtime', 'ok', `onnxruntime-node ${version} for ${names.join(', ')}`)
}

function processor(): Check {
  const [first] = cpus()
  const threads = availableParallelism()
  return check('processor', 'ok', `${first?.model.trim() ?? process.arch}, ${threads} threads for this process`)
}

function memory(): Check {
  const limit = process.constrainedMemory?.() ?? 0
  const total = limit > 0 && limit < totalmem() ? limit : totalmem()
  const free = Math.round(freemem() / MEGABYTE)
  const sentence = `${Math.round(total / MEGABYTE)} MB, ${free} MB of them free`
  return check('memory', free < LEAST_MEMORY_MB ? 'warn' : 'ok', sentence)
}

async function writable(dataDir: string): Promise<Check> {
  const folder = await existing(dataDir)
  const file = join(folder, `.peertune-doctor-${process.pid}`)
  try {
    await writeFile(file, '', { flag: 'wx' })
    await rm(file)
    return check('data', 'ok', `${dataDir} can be written${folder === resolve(dataDir) ? '' : ' once it is made'}`)
  } catch (error) {
    return check('data', 'fail', `${dataDir} cannot be written: ${error instanceof Error ? error.message : error}`)
  }
}

async function disk(dataDir: string): Promise<Check> {
  const { bavail, bsize } = await statfs(await existing(dataDir))
  const free = Math.round((bavail * bsize) / MEGABYTE)
  return check('disk', free < LEAST_DISK_MB ? 'warn' : 'ok', `${free} MB free where ${dataDir} lies`)
}

/** The folder, or the nearest one above it that exists. */
async function existing(folder: string): Promise<string> {
  for (let at = resolve(folder); ; at = dirname(at)) {
    const there = await access(at, constants.F_OK).then(
      () => true,
      () => false
    )
    if (there || at === dirname(at)) return at
  }
}

function clockCheck(clock: Clock): Check {
  const now = clock.now()
  const text = new Date(now).toISOString()
  if (now >= NEWER_THAN_MS) return check('clock', 'ok', text)
  return check('clock', 'warn', `${text} is in the past: set the clock, others judge announcements by their age`)
}

function cpuAnswer(devices: readonly DeviceReport[]): Check {
  const answer = devices.find(({ device }) => device === 'cpu')?.answer
  if (answer?.kind === 'works') return check('training', 'ok', 'a small graph runs on the CPU')
  return check('training', 'fail', `a small graph does not run on the CPU: ${answer?.reason ?? 'no answer'}`)
}
