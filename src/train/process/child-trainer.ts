import type { Clock } from '../../base/clock.js'
import { PeertuneError } from '../../base/errors.js'
import type { Logger } from '../../base/log.js'
import type { Batch } from '../../data/batches/batch.js'
import { encodeFrame } from './frame.js'
import { errorOf, requestFrame, type Failure, type Reply } from './protocol.js'
import type { StepOptions, Trainer, TrainerDescription, TrainerSpec } from '../trainer.js'
import { createRequestQueue, type Died, endFacts, type RequestTally } from './request-queue.js'
import { startTrainerProcess, type TrainerExit, type TrainerProcess } from './trainer-process.js'

export { MAX_RESTARTS_IN_A_ROW, RESTART_BACKOFF_MS } from './request-queue.js'

export interface SpawnTrainerOptions {
  /** File that calls `runTrainerProcess`; see base/entry.ts. */
  readonly entry: URL | string
  readonly spec: TrainerSpec
  readonly clock: Clock
  readonly log: Logger
  /** From process start to the description; a large model is read, rewritten and optimised in it. */
  readonly startTimeoutMs?: number
  /** One step or evaluation; a driver that hangs is killed after it. */
  readonly requestTimeoutMs?: number
  /** For the step under way when the trainer is closed. */
  readonly stopGraceMs?: number
  /**
   * Megabytes of resident memory. A process that has grown beyond them is replaced before the next request; one that
   * takes more in its very first says so: `train/memory-limit`.
   */
  readonly memoryLimitMb?: number
}

/** A Trainer in a process of its own, started again when it dies. */
export interface ChildTrainer extends Trainer {
  /** Of the process that runs now; undefined after a death until the next request. */
  readonly pid: number | undefined
  /** Processes started after the first. */
  readonly restarts: number
  /** Of the gradients of the first step in int8 to those in float32, since it was measured. */
  readonly float32Cosine: number | undefined
  /** Where every step and evaluation ended. */
  tally(): RequestTally
  /** Every end of a process, the last included. Returns a function that takes the listener off. */
  onExit(listener: (exit: TrainerExit) => void): () => void
  /** Gives the step under way `graceMs` (`stopGraceMs` by default) to end. */
  close(graceMs?: number): Promise<void>
}

/**
 * Starts a trainer child and resolves when it has described itself.
 *
 * Requests are answered one by one with the parameters and batch of the moment of the call. When the child dies
 * (crash, out of memory, hung driver), the request is put to a fresh one, at most MAX_RESTARTS_IN_A_ROW times.
 * A child that dies between requests is replaced at the next.
 *
 * Rejects with the error that the child reports (not tried again), `train/start-timeout`,
 * `train/trainer-keeps-dying`, `train/trainer-changed`, `train/memory-limit`, `train/too-many-requests` and `train/closed`.
 */
export async function spawnTrainer(options: SpawnTrainerOptions): Promise<ChildTrainer> {
  const { requestTimeoutMs = 600_000, stopGraceMs = 10_000 } = options
  const launcher = createLauncher(options)
  const ceiling = createMemoryCeiling(options)
  const requests = createRequestQueue(options, async (question) => {
    const running = await launcher.running()
    if (running.kind === 'died') return running
    const outcome = await running.process.ask(question, requestTimeoutMs)
    return outcome.kind === 'died'
      ? outcome
      : { ...outcome, reply: await ceiling.check(outcome.reply, running.process) }
  })
  await requests.untilAlive(launcher.running)
  let float32Cosine: number | undefined

  return {
    get description() {
      return launcher.description()
    },
    get pid() {
      return launcher.process()?.pid
    },
    get restarts() {
      return launcher.launches() - 1
    },
    get float32Cosine() {
      return float32Cosine
    },
    onExit: launcher.onExit,
    tally: requests.tally,
    async step(parameters: Float32Array, batch: Batch, { signal }: StepOptions = {}) {
      const reply = await requests.put({ kind: 'step', parameters, batch }, signal)
      if (reply.kind !== 'stepped' || reply.result.gradients.length !== parameters.length)
        throw unexpected(reply, parameters.length)
      if (reply.result.float32Cosine !== undefined) {
        float32Cosine = reply.result.float32Cosine
        options.log.info({ float32Cosine }, 'first step in int8: cosine of its gradients to those in float32')
      }
      return reply.result
    },
    async evaluate(parameters: Float32Array, batch: Batch, { signal }: StepOptions = {}) {
      const reply = await requests.put({ kind: 'evaluate', parameters, batch }, signal)
      if (reply.kind === 'evaluated') return reply.result
      throw unexpected(reply, parameters.length)
    },
    async close(graceMs = stopGraceMs) {
      requests.close()
      await launcher.process()?.stop(graceMs)
      await requests.settled()
    }
  }
}

/** Looks at what a process says it took at its peak. */
function createMemoryCeiling({
  memoryLimitMb = Number.POSITIVE_INFINITY,
  stopGraceMs = 10_000,
  log
}: SpawnTrainerOptions) {
  let known: TrainerProcess | undefined
  return {
    async check(reply: Reply, process: TrainerProcess): Promise<Reply> {
      const isFirst = process !== known
      known = process
      const peakMb = reply.kind === 'stepped' || reply.kind === 'evaluated' ? reply.peakMb : 0
      if (peakMb <= memoryLimitMb) return reply
      log.warn({ pid: process.pid, peakMb, memoryLimitMb }, 'the trainer process grew beyond its limit and is replaced')
      await process.stop(stopGraceMs)
      return isFirst ? { kind: 'failed', failure: overLimit(peakMb, memoryLimitMb) } : reply
    }
  }
}

const overLimit = (peakMb: number, memoryLimitMb: number): Failure => ({
  code: 'train/memory-limit',
  message: `one request takes ${Math.ceil(peakMb)} MB, more than the limit of ${memoryLimitMb} MB`,
  facts: { peakMb: Math.ceil(peakMb), memoryLimitMb },
  hint: 'use a smaller batch, memoryMb or microBatch, or raise the limit'
})

type Running = { readonly kind: 'running'; readonly process: TrainerProcess }

/** Holds the one process and its description; starts the next when there is none. */
function createLauncher({ entry, spec, clock, log, startTimeoutMs = 120_000 }: SpawnTrainerOptions) {
  const listeners = new Set<(exit: TrainerExit) => void>()
  let current: TrainerProcess | undefined
  let ready = false
  let description: TrainerDescription | undefined
  let launches = 0

  async function launch(): Promise<Running | Died> {
    const process = startTrainerProcess({ entry, clock, log })
    current = process
    ready = false
    launches++
    void process.exited.then((exit) => {
      if (current === process) current = undefined
      if (exit.code === 0) log.debug(endFacts(exit), 'the trainer process left')
      else log.warn(endFacts(exit), 'the trainer process died')
      for (const listener of listeners) listener(exit)
    })
    const chunks = encodeFrame(requestFrame({ kind: 'open', spec }, 0))
    const outcome = await process.ask({ id: 0, chunks }, startTimeoutMs)
    if (outcome.kind === 'died') return outcome.exit.reason === 'timeout' ? tooSlow(startTimeoutMs, outcome) : outcome
    try {
      description = accept(outcome.reply, description)
    } catch (error) {
      await process.stop(0)
      throw error
    }
    ready = true
    return { kind: 'running', process }
  }

  return {
    running: async (): Promise<Running | Died> =>
      current !== undefined && ready ? { kind: 'running', process: current } : launch(),
    process: () => current,
    description: () => description as TrainerDescription,
    launches: () => launches,
    onExit(listener: (exit: TrainerExit) => void) {
      listeners.add(listener)
      return () => void listeners.delete(listener)
    }
  }
}

/** A restarted trainer must train the same parameters of the same model; its device may be another. */
function accept(reply: Reply, known: TrainerDescription | undefined): TrainerDescription {
  if (reply.kind !== 'ready') throw unexpected(reply)
  const { description } = reply
  const same = (d: TrainerDescription) => `${d.modelSha256} ${d.schema.hash}`
  if (known === undefined || same(known) === same(description)) return description
  throw new PeertuneError('train/trainer-changed', 'the restarted trainer has another model or other parameters', {
    facts: { expected: same(known), got: same(description) },
    hint: 'the model file was changed while it was in use: stop the node and start it again'
  })
}

function unexpected(reply: Reply, parameters?: number): PeertuneError {
  if (reply.kind === 'failed') return errorOf(reply.failure)
  return new PeertuneError('train/bad-message', 'the trainer process gave an answer that does not fit the question', {
    facts: { reply: reply.kind, parameters }
  })
}

function tooSlow(startTimeoutMs: number, { exit }: Died): never {
  throw new PeertuneError('train/start-timeout', `the trainer was not ready within ${startTimeoutMs} ms`, {
    facts: { startTimeoutMs, lastLines: exit.lastLines }
  })
}
