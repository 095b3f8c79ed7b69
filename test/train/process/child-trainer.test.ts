import { PATIENCE } from '../../patience.js'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { systemClock, type Clock } from '../../../src/base/clock.js'
import type { ErrorFacts } from '../../../src/base/errors.js'
import { silentLogger, type Logger } from '../../../src/base/log.js'
import type { Batch } from '../../../src/data/batches/batch.js'
import {
  type ChildTrainer,
  MAX_RESTARTS_IN_A_ROW,
  RESTART_BACKOFF_MS,
  spawnTrainer
} from '../../../src/train/process/child-trainer.js'
import type { TrainerExit } from '../../../src/train/process/trainer-process.js'
import type { TrainerSpec } from '../../../src/train/trainer.js'

const ENTRY = new URL('../fixtures/quadratic-trainer.mjs', import.meta.url)

/** First label of a batch that makes the fixture misbehave. */
const REFUSE = -1
const KILL = -2
const GARBAGE = -3
const HANG = -4
const SLOW = -5
const CHATTER = -6
const HANG_FOR_EVER = -7
const GROW = -8

const batch = (target: number, command = 0): Batch => ({
  inputs: { target: { type: 'float32', shape: [1], data: Float32Array.of(target) } },
  labels: { shape: [3], data: Int32Array.of(command, 1, 2) }
})

const BACKOFFS_MS = [1, 2, 4, 8].map((factor) => factor * RESTART_BACKOFF_MS)

/** Back-off passes at once and is written down; limits are real. */
function quickClock() {
  const slept: number[] = []
  const clock: Clock = {
    now: systemClock.now,
    sleep: (ms, signal) => {
      if (!BACKOFFS_MS.includes(ms)) return systemClock.sleep(ms, signal)
      slept.push(ms)
      return Promise.resolve()
    }
  }
  return { clock, slept }
}

/** What was asked is under way: only promises lie between a call and the pipe. */
const turn = () => new Promise<void>((resolve) => setImmediate(resolve))

describe('a trainer in a child process', () => {
  let dir: string
  const trainers: ChildTrainer[] = []
  beforeEach(() => {
    dir = mkdtempSync(join(tmpdir(), 'peertune-trainer-'))
  })
  afterEach(async () => {
    await Promise.all(trainers.splice(0).map((trainer) => trainer.close()))
    rmSync(dir, { recursive: true, force: true })
  })

  const specOf = (behaviour: object): TrainerSpec => ({
    modelPath: JSON.stringify({ dir, ...behaviour }),
    task: { kind: 'causal-lm' },
    peft: { method: 'full', seed: 's' },
    device: 'cpu',
    threads: 1
  })
  const start = async (behaviour: object = {}, options: Partial<Parameters<typeof spawnTrainer>[0]> = {}) => {
    const { clock } = quickClock()
    const spec = specOf(behaviour)
    const trainer = await spawnTrainer({ entry: ENTRY, spec, clock, log: silentLogger, stopGraceMs: 300, ...options })
    trainers.push(trainer)
    return trainer
  }
  const counted = (name: string): number => {
    try {
      return readFileSync(join(dir, name), 'utf8').length
    } catch {
      return 0
    }
  }

  it('describes itself over the pipe', async () => {
    const { description, pid, restarts } = await start({ size: 4 })
    expect(description.schema.entries).toEqual([{ name: 'p', shape: [4], offset: 0, size: 4 }])
    expect(description.initial).toEqual(Float32Array.of(0, 0.25, 0.5, 0.75))
    expect(description.inputs).toEqual([{ name: 'target', shape: ['batch', 1] }])
    expect(description.modelSha256).toBe('ab'.repeat(32))
    expect(description.device).toEqual({ used: 'cpu' })
    expect(pid).not.toBe(process.pid)
    expect(restarts).toBe(0)
  })

  it('answers steps and evaluations', async () => {
    const trainer = await start()
    const { loss, gradients } = await trainer.step(Float32Array.of(3, -1, 0.5), batch(1))
    // 0.5 * 2^2 + 1.5 * 2^2 + 2.5 * 0.5^2, and 2 (i + 0.5) (p - 1)
    expect(loss).toBe(8.625)
    expect(gradients).toEqual(Float32Array.of(2, -6, -2.5))
    const evaluation = await trainer.evaluate(Float32Array.of(3, -1, 0.5), batch(1))
    expect(evaluation).toEqual({ lossSum: 2.5, count: 3, correct: 2 })
  })

  it('hands over NaN and infinite losses as they are', async () => {
    const trainer = await start()
    expect((await trainer.step(Float32Array.of(NaN, 0, 0), batch(1))).loss).toBeNaN()
    expect((await trainer.step(Float32Array.of(Infinity, 0, 0), batch(1))).loss).toBe(Infinity)
  })

  it('uses the parameters of the moment of the call, in the order of the calls', async () => {
    const size = 300_000
    const trainer = await start({ size })
    const parameters = new Float32Array(size).fill(2)
    const first = trainer.step(parameters, batch(0))
    parameters.fill(5)
    const second = trainer.step(parameters, batch(0))
    parameters.fill(7)
    expect((await first).gradients.at(-1)).toBe(2 * (size - 0.5) * 2)
    expect((await second).gradients.at(-1)).toBe(2 * (size - 0.5) * 5)
    expect((await first).gradients.at(-1)).toBe(2 * (size - 0.5) * 2)
  })

  it('keeps no gradients of steps gone by', async () => {
    const size = 300_000
    const trainer = await start({ size })
    const parameters = new Float32Array(size).fill(2)
    for (let i = 0; i < 250; i++) await trainer.step(parameters, batch(0))
    // 250 gradients are 300 MB; what the collector has not yet come to is far below.
    expect(process.memoryUsage().arrayBuffers).toBeLessThan(150e6)
  })

  it('puts a step to a fresh process when the first is killed under it', async () => {
    const exits: TrainerExit[] = []
    const { clock, slept } = quickClock()
    const trainer = await start({ crashes: 2 }, { clock })
    trainer.onExit((exit) => exits.push(exit))
    const first = trainer.pid
    const parameters = Float32Array.of(3, -1, 0.5)
    const step = trainer.step(parameters, batch(1, KILL))
    parameters.fill(100)
    expect((await step).loss).toBe(8.625)
    expect(trainer.restarts).toBe(2)
    expect(trainer.pid).not.toBe(first)
    expect(exits.map(({ signal }) => signal)).toEqual(['SIGKILL', 'SIGKILL'])
    expect(exits[0]?.lastLines).toEqual([`killed by batch, pid ${first}`])
    expect(slept).toEqual([500, 1000])
    await trainer.step(parameters, batch(1))
    expect(trainer.restarts).toBe(2)
  })

  it('gives a step up that kills every process, and goes on with the next', async () => {
    const trainer = await start({ crashes: MAX_RESTARTS_IN_A_ROW + 1 })
    const error = await trainer.step(new Float32Array(3), batch(1, KILL)).catch((reason: unknown) => reason)
    expect(error).toMatchObject({
      code: 'train/trainer-keeps-dying',
      message: expect.stringMatching(/died 4 times in a row, last with signal SIGKILL: killed by batch/),
      facts: { signal: 'SIGKILL', deaths: 4, lastLines: [expect.stringContaining('killed by batch')] },
      hint: expect.stringContaining('memory')
    })
    expect((await trainer.step(Float32Array.of(3, -1, 0.5), batch(1))).loss).toBe(8.625)
    expect(trainer.restarts).toBe(4)
  })

  it('replaces a process that died between two steps', async () => {
    const trainer = await start()
    const gone = new Promise((resolve) => trainer.onExit(resolve))
    process.kill(trainer.pid!, 'SIGKILL')
    await gone
    expect(trainer.pid).toBeUndefined()
    expect((await trainer.step(Float32Array.of(3, -1, 0.5), batch(1))).loss).toBe(8.625)
    expect(trainer.restarts).toBe(1)
  })

  it('replaces a process that writes garbage into the pipe', async () => {
    const exits: TrainerExit[] = []
    const trainer = await start({ crashes: 1 })
    trainer.onExit((exit) => exits.push(exit))
    expect((await trainer.step(Float32Array.of(3, -1, 0.5), batch(1, GARBAGE))).loss).toBe(8.625)
    expect(exits).toEqual([expect.objectContaining({ reason: 'bad-frame', signal: 'SIGKILL' })])
  })

  it('replaces a process that hangs in a step', async () => {
    const exits: TrainerExit[] = []
    const trainer = await start({ crashes: 1 }, { requestTimeoutMs: 150 })
    trainer.onExit((exit) => exits.push(exit))
    expect((await trainer.step(Float32Array.of(3, -1, 0.5), batch(1, HANG))).loss).toBe(8.625)
    expect(exits).toEqual([expect.objectContaining({ reason: 'timeout' })])
  })

  it('hands on what the trainer refuses, without a restart', async () => {
    const trainer = await start()
    await expect(trainer.step(new Float32Array(3), batch(1, REFUSE))).rejects.toMatchObject({
      name: 'PeertuneError',
      code: 'train/wrong-shape',
      message: 'no such shape',
      facts: { expected: [2, 3] }
    })
    expect((await trainer.step(Float32Array.of(3, -1, 0.5), batch(1))).loss).toBe(8.625)
    expect(trainer.restarts).toBe(0)
  })

  it('hands on why a trainer cannot start, without a second try', async () => {
    await expect(start({ start: 'refuse' })).rejects.toMatchObject({
      name: 'PeertuneError',
      code: 'onnx/not-a-model',
      message: 'cat.jpg is no ONNX model',
      facts: { path: 'cat.jpg', bytes: 17 },
      hint: 'export the model first'
    })
    await expect(start({ start: 'throw' })).rejects.toMatchObject({
      code: 'train/trainer-failed',
      message: 'something unforeseen',
      cause: expect.stringContaining('quadratic-trainer.mjs')
    })
    expect(counted('starts')).toBe(2)
  })

  it('tries again when the process dies while it starts', async () => {
    const trainer = await start({ start: 'crash-once' })
    expect(trainer.restarts).toBe(1)
  })

  it('gives up on a process that never starts, with its last words', async () => {
    await expect(start({ start: 'crash' })).rejects.toMatchObject({
      code: 'train/trainer-keeps-dying',
      facts: { code: 3, deaths: 4, lastLines: ['driver: cannot open device'] }
    })
    expect(counted('starts')).toBe(4)
  })

  it('says so when the entry file is missing', async () => {
    await expect(start({}, { entry: join(dir, 'nowhere.mjs') })).rejects.toMatchObject({
      code: 'train/trainer-keeps-dying',
      facts: { code: 1, lastLines: expect.arrayContaining([expect.stringContaining('Cannot find module')]) }
    })
  })

  it('waits for a slow start only so long', async () => {
    await expect(start({ start: 'hang' }, { startTimeoutMs: 200 })).rejects.toMatchObject({
      code: 'train/start-timeout',
      facts: { startTimeoutMs: 200 }
    })
    expect(counted('starts')).toBeLessThanOrEqual(1)
  })

  it('refuses a restarted trainer with other parameters', async () => {
    const trainer = await start({ start: 'change', crashes: 1 })
    await expect(trainer.step(new Float32Array(3), batch(1, KILL))).rejects.toMatchObject({
      code: 'train/trainer-changed'
    })
  })

  it('has a bound on what waits', async () => {
    const trainer = await start()
    const asked = Array.from({ length: 8 }, () => trainer.step(new Float32Array(3), batch(1)))
    const settled = await Promise.allSettled(asked)
    expect(settled.map(({ status }) => status === 'fulfilled')).toEqual([1, 1, 1, 1, 1, 0, 0, 0].map(Boolean))
    expect(settled[7]).toMatchObject({ reason: { code: 'train/too-many-requests' } })
  })

  it('cancels between steps: what waits is never begun, what is under way ends unseen', async () => {
    const trainer = await start()
    const cancel = new AbortController()
    const reason = new Error('no longer wanted')
    const { signal } = cancel
    const under = trainer.step(new Float32Array(3), batch(1, SLOW), { signal }).catch((error: unknown) => error)
    const waiting = trainer.step(new Float32Array(3), batch(1, KILL), { signal }).catch((error: unknown) => error)
    await turn()
    cancel.abort(reason)
    expect([await under, await waiting]).toEqual([reason, reason])
    await expect(trainer.step(new Float32Array(3), batch(1), { signal })).rejects.toBe(reason)
    const { loss } = await trainer.step(Float32Array.of(3, -1, 0.5), batch(1))
    expect(loss).toBe(8.625)
    expect(trainer.restarts).toBe(0)
    expect(trainer.tally()).toEqual({ asked: 4, answered: 1, refused: 0, cancelled: 3, lost: 0, waiting: 0 })
  })

  it('accounts for every step whatever becomes of it', async () => {
    const trainer = await start({ crashes: MAX_RESTARTS_IN_A_ROW + 1 })
    const commands = [0, REFUSE, KILL, 0, 0, 0, 0, 0]
    const asked = commands.map((command) => trainer.step(new Float32Array(3), batch(1, command)))
    await Promise.allSettled(asked)
    expect(trainer.tally()).toEqual({ asked: 8, answered: 3, refused: 4, cancelled: 0, lost: 1, waiting: 0 })
    await trainer.evaluate(new Float32Array(3), batch(1))
    expect(trainer.tally()).toMatchObject({ asked: 9, answered: 4 })
  })

  it('replaces a process that has grown beyond its ceiling, and keeps its answer', async () => {
    const trainer = await start({}, { memoryLimitMb: 400 })
    const exits: TrainerExit[] = []
    trainer.onExit((exit) => exits.push(exit))
    await trainer.step(new Float32Array(3), batch(1))
    const { loss } = await trainer.step(Float32Array.of(3, -1, 0.5), batch(1, GROW))
    expect(loss).toBe(8.625)
    expect(exits).toEqual([expect.objectContaining({ code: 0 })])
    await trainer.step(new Float32Array(3), batch(1))
    expect(trainer.restarts).toBe(1)
    expect(trainer.tally()).toMatchObject({ asked: 3, answered: 3 })
  })

  it('says so when one request alone takes more than the ceiling', async () => {
    const trainer = await start({}, { memoryLimitMb: 400 })
    await expect(trainer.step(new Float32Array(3), batch(1, GROW))).rejects.toMatchObject({
      code: 'train/memory-limit',
      facts: { memoryLimitMb: 400 },
      hint: expect.stringContaining('microBatch')
    })
    await trainer.step(new Float32Array(3), batch(1))
    expect(trainer.tally()).toMatchObject({ asked: 2, answered: 1, refused: 1 })
  })

  it('passes on what the child prints, within bounds', async () => {
    const lines: ErrorFacts[] = []
    const log: Logger = { ...silentLogger, debug: (facts) => lines.push(facts) }
    const trainer = await start({}, { log })
    await trainer.step(new Float32Array(3), batch(1, CHATTER))
    await trainer.close()
    expect(lines.length).toBeGreaterThan(100)
    expect(lines.length).toBeLessThanOrEqual(202)
    expect(lines[0]).toMatchObject({ line: expect.stringMatching(/^warning 0 x+$/) })
  })

  it('finishes the step under way when it is closed, and releases the model', async () => {
    const trainer = await start({}, { stopGraceMs: 30_000 })
    const exits: TrainerExit[] = []
    trainer.onExit((exit) => exits.push(exit))
    const under = trainer.step(Float32Array.of(3, -1, 0.5), batch(1, SLOW))
    const queued = trainer.step(new Float32Array(3), batch(1)).catch((error: unknown) => error)
    await turn()
    await Promise.all([trainer.close(), trainer.close()])
    expect((await under).loss).toBe(8.625)
    expect(await queued).toMatchObject({ code: 'train/closed' })
    expect(exits).toEqual([expect.objectContaining({ code: 0, signal: null })])
    expect(counted('closed')).toBe(1)
    await expect(trainer.step(new Float32Array(3), batch(1))).rejects.toMatchObject({ code: 'train/closed' })
  })

  it('kills a process that does not leave within the grace period', async () => {
    const trainer = await start()
    const hanging = trainer.step(new Float32Array(3), batch(1, HANG_FOR_EVER)).catch((error: unknown) => error)
    const exit = new Promise((resolve) => trainer.onExit(resolve))
    await turn()
    await trainer.close()
    expect(await hanging).toMatchObject({ code: 'train/closed' })
    expect(await exit).toMatchObject({ reason: 'stop-timeout', signal: 'SIGKILL' })
  })

  it('gives no more grace than it is closed with', async () => {
    // Longer than the test may take.
    const trainer = await start({}, { stopGraceMs: 600_000 })
    const hanging = trainer.step(new Float32Array(3), batch(1, HANG_FOR_EVER)).catch((error: unknown) => error)
    const exit = new Promise((resolve) => trainer.onExit(resolve))
    await turn()
    await trainer.close(0)
    expect(await hanging).toMatchObject({ code: 'train/closed' })
    expect(await exit).toMatchObject({ reason: 'stop-timeout', signal: 'SIGKILL' })
  })

  it('does not stop for a Ctrl-C that is meant for the node', async () => {
    const trainer = await start()
    process.kill(trainer.pid!, 'SIGINT')
    process.kill(trainer.pid!, 'SIGTERM')
    expect((await trainer.step(Float32Array.of(3, -1, 0.5), batch(1))).loss).toBe(8.625)
    expect(trainer.restarts).toBe(0)
  })

  it('leaves when the node is killed', async () => {
    const parent = spawn(process.execPath, [
      fileURLToPath(new URL('../fixtures/parent.mjs', import.meta.url)),
      fileURLToPath(ENTRY),
      specOf({}).modelPath
    ])
    const [line] = (await once(parent.stdout, 'data')) as [Buffer]
    const pid = Number(line.toString())
    process.kill(pid, 0)
    parent.kill('SIGKILL')
    await once(parent, 'exit')
    await expect.poll(() => isAlive(pid), PATIENCE).toBe(false)
  })
})

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    // An orphan that is dead but not yet reaped by init still has a pid.
    return !readFileSync(`/proc/${pid}/stat`, 'utf8').includes(') Z ')
  } catch {
    return false
  }
}
