import type { Clock } from '../base/clock.js'
import { PeertuneError } from '../base/errors.js'
import type { Logger } from '../base/log.js'
import type { Batch } from '../data/batch.js'
import { encodeFrame } from './frame.js'
import { errorOf, requestFrame, type Reply, type Request } from './protocol.js'
import type { Trainer, TrainerDescription, TrainerSpec } from './trainer.js'
import {
  startTrainerProcess,
  type Outcome,
  type Question,
  type TrainerExit,
  type TrainerProcess
} from './trainer-process.js'

/** Fresh processes for one request; a batch or a driver that kills four in a row will kill the fifth. */
export const MAX_RESTARTS_IN_A_ROW = 3
/** Requests that wait for the one under way, each with its own copy of the parameters. One loop asks; nobody queues up. */
export const MAX_QUEUED_REQUESTS = 4
/** Before the first restart, doubled before each further one: time for a driver to come back or memory to be freed. */
export const RESTART_BACKOFF_MS = 500

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
}

/** A Trainer in a process of its own, started again when it dies. */
export interface ChildTrainer extends Trainer {
  /** Of the process that runs now; undefined after a death until the next request. */
  readonly pid: number | undefined
  /** Processes started after the first. */
  readonly restarts: number
  /** Every end of a process, the last included. Returns a function that takes the listener off. */
  onExit(listener: (exit: TrainerExit) => void): () => void
}

/**
 * Starts a trainer child and resolves when it has described itself.
 *
 * Requests are answered one by one with the parameters and batch of the moment of the call. When the child dies
 * (crash, out of memory, hung driver), the request is put to a fresh one, at most MAX_RESTARTS_IN_A_ROW times.
 * A child that dies between requests is replaced at the next.
 *
 * Rejects with the error that the child reports (not tried again), `train/start-timeout`,
 * `train/trainer-keeps-dying`, `train/trainer-changed`, `train/too-many-requests` and `train/closed`.
 */
export async function spawnTrainer(options: SpawnTrainerOptions): Promise<ChildTrainer> {
  const { requestTimeoutMs = 600_000, stopGraceMs = 10_000 } = options
  const launcher = createLauncher(options)
  const requests = createRequestQueue(options, async (question) => {
    const running = await launcher.running()
    return running.kind === 'died' ? running : running.process.ask(question, requestTimeoutMs)
  })
  await requests.untilAlive(launcher.running)

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
    onExit: launcher.onExit,
    async step(parameters: Float32Array, batch: Batch) {
      const reply = await requests.put({ kind: 'step', parameters, batch })
      if (reply.kind === 'stepped' && reply.result.gradients.length === parameters.length) return reply.result
      throw unexpected(reply, parameters.length)
    },
    async evaluate(parameters: Float32Array, batch: Batch) {
      const reply = await requests.put({ kind: 'evaluate', parameters, batch })
      if (reply.kind === 'evaluated') return reply.result
      throw unexpected(reply, parameters.length)
    },
    async close() {
      requests.close()
      await launcher.process()?.stop(stopGraceMs)
      await requests.settled()
    }
  }
}

type Running = { readonly kind: 'running'; readonly process: TrainerProcess }
type Died = Extract<Outcome, { kind: 'died' }>

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

/** One request at a time, in order, each put to fresh processes until one answers. */
function createRequestQueue({ clock, log }: SpawnTrainerOptions, ask: (question: Question) => Promise<Outcome>) {
  const closing = new AbortController()
  let last: Promise<unknown> = Promise.resolve()
  let queued = 0
  let nextId = 1

  async function untilAlive<T extends { kind: string }>(attempt: () => Promise<T | Died>): Promise<Exclude<T, Died>> {
    for (let deaths = 1; ; deaths++) {
      closing.signal.throwIfAborted()
      const outcome = await attempt()
      if (!isDied(outcome)) return outcome as Exclude<T, Died>
      closing.signal.throwIfAborted()
      if (deaths > MAX_RESTARTS_IN_A_ROW) throw keepsDying(outcome.exit, deaths)
      log.info({ deaths, maxRestarts: MAX_RESTARTS_IN_A_ROW }, 'starting another trainer process')
      await clock.sleep(RESTART_BACKOFF_MS * 2 ** (deaths - 1), closing.signal)
    }
  }

  async function put(request: Request): Promise<Reply> {
    closing.signal.throwIfAborted()
    if (queued > MAX_QUEUED_REQUESTS) throw tooMany(queued)
    const id = nextId++ >>> 0
    // The copy is what a fresh process gets when this one dies, though the node's vector has moved on by then.
    const chunks = encodeFrame(requestFrame(request, id)).map((chunk) => chunk.slice())
    queued++
    const answer = last.then(() => untilAlive(() => ask({ id, chunks })))
    last = answer.then(
      () => queued--,
      () => queued--
    )
    return (await answer).reply
  }

  return { put, untilAlive, close: () => closing.abort(closed()), settled: () => last }
}

const isDied = (outcome: { readonly kind: string }): outcome is Died => outcome.kind === 'died'

function endFacts({ pid, code, signal, reason, lastLines }: TrainerExit) {
  return { pid, code: code ?? undefined, signal: signal ?? undefined, reason, lastLines }
}

function unexpected(reply: Reply, parameters?: number): PeertuneError {
  if (reply.kind === 'failed') return errorOf(reply.failure)
  return new PeertuneError('train/bad-message', 'the trainer process gave an answer that does not fit the question', {
    facts: { reply: reply.kind, parameters }
  })
}

function keepsDying(exit: TrainerExit, deaths: number): PeertuneError {
  const end = exit.signal === null ? `exit code ${exit.code}` : `signal ${exit.signal}`
  const lastLine = exit.lastLines.at(-1)
  return new PeertuneError(
    'train/trainer-keeps-dying',
    `the trainer process died ${deaths} times in a row, last with ${end}${lastLine === undefined ? '' : `: ${lastLine}`}`,
    {
      facts: { ...endFacts(exit), deaths },
      hint:
        exit.signal === 'SIGKILL' && exit.reason === undefined
          ? 'the system probably ran out of memory: use a smaller batch or fewer peers on this machine'
          : 'if a driver is to blame, try the device "cpu"'
    }
  )
}

function tooSlow(startTimeoutMs: number, { exit }: Died): never {
  throw new PeertuneError('train/start-timeout', `the trainer was not ready within ${startTimeoutMs} ms`, {
    facts: { startTimeoutMs, lastLines: exit.lastLines }
  })
}

function tooMany(queued: number): PeertuneError {
  return new PeertuneError('train/too-many-requests', 'more is asked of the trainer than it can answer', {
    facts: { queued, max: MAX_QUEUED_REQUESTS }
  })
}

const closed = () => new PeertuneError('train/closed', 'the trainer is closed')
