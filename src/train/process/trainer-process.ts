import { spawn, type ChildProcess } from 'node:child_process'
import type { Duplex, Readable } from 'node:stream'
import { fileURLToPath } from 'node:url'
import type { Clock } from '../../base/clock.js'
import { PeertuneError } from '../../base/errors.js'
import type { Logger } from '../../base/log.js'
import { createOutputTail } from './output-tail.js'
import { openPipe } from './pipe.js'
import { encodeFrame, type Frame } from './frame.js'
import { parseReply, requestFrame, type Reply } from './protocol.js'

/** How a trainer process ended. */
export interface TrainerExit {
  readonly pid: number | undefined
  /** Exit status, or null when a signal ended it. */
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
  /** Why this side killed it, or that there never was a process. */
  readonly reason?: 'timeout' | 'bad-frame' | 'not-started' | 'stop-timeout'
  /** The last lines it printed, oldest first. */
  readonly lastLines: readonly string[]
}

export type Outcome =
  | { readonly kind: 'reply'; readonly reply: Reply }
  | { readonly kind: 'died'; readonly exit: TrainerExit }

/** One life of a trainer child. Asks one question at a time; never throws for what happens to the child. */
export interface TrainerProcess {
  readonly pid: number | undefined
  readonly exited: Promise<TrainerExit>
  /** Sends a frame made by `encodeFrame(requestFrame(...))`; kills the child when no reply comes within `timeoutMs`. */
  ask(question: Question, timeoutMs: number): Promise<Outcome>
  /** Asks it to finish and leave, kills it after `graceMs`. */
  stop(graceMs: number): Promise<TrainerExit>
}

export interface Question {
  readonly id: number
  readonly chunks: readonly Uint8Array[]
}

/** After an exit, how long the rest of what it printed may take to arrive. */
const OUTPUT_DRAIN_MS = 250

export interface TrainerProcessOptions {
  readonly entry: URL | string
  readonly clock: Clock
  readonly log: Logger
}

/** Throws `train/cannot-start` only when the system has no room for another process. */
export function startTrainerProcess({ entry, clock, log }: TrainerProcessOptions): TrainerProcess {
  const child = spawnEntry(entry instanceof URL ? fileURLToPath(entry) : entry)
  const tail = createOutputTail((line) => log.debug({ pid: child.pid, line }, 'the trainer process says'))
  tail.follow(child.stdio[1] as Readable)
  tail.follow(child.stdio[2] as Readable)

  let reason: TrainerExit['reason']
  const kill = (why: NonNullable<TrainerExit['reason']>) => {
    reason ??= why
    child.kill('SIGKILL')
  }
  const exited = exitOf(child, clock).then(({ code, signal }): TrainerExit => {
    const why = child.pid === undefined ? 'not-started' : reason
    return { pid: child.pid, code, signal, ...(why === undefined ? {} : { reason: why }), lastLines: tail.lines() }
  })
  const exchange = openExchange(child.stdio[3] as Duplex, exited, (error) => {
    if (child.exitCode !== null || child.signalCode !== null) return
    log.error({ pid: child.pid, error: error.message }, 'the pipe to the trainer process is unusable')
    kill('bad-frame')
  })

  return {
    pid: child.pid,
    exited,
    async ask(question, timeoutMs) {
      const inTime = deadline(clock, timeoutMs, () => kill('timeout'))
      const outcome = await exchange.ask(question)
      inTime()
      return outcome
    },
    async stop(graceMs) {
      exchange.tell({ id: 0, chunks: encodeFrame(requestFrame({ kind: 'stop' }, 0)) })
      const inTime = deadline(clock, graceMs, () => kill('stop-timeout'))
      const exit = await exited
      inTime()
      return exit
    }
  }
}

function spawnEntry(path: string): ChildProcess {
  const child = spawn(process.execPath, [path], { stdio: ['ignore', 'pipe', 'pipe', 'pipe'], windowsHide: true })
  // Without file descriptors left Node hands out a child that has no streams at all.
  if (child.stdio !== undefined) return child
  child.once('error', () => undefined)
  throw new PeertuneError('train/cannot-start', 'the system refuses to start a trainer process', {
    facts: { entry: path },
    hint: 'raise the limit of open files (ulimit -n)'
  })
}

/** Questions and their answers over the pipe; `onBroken` when what arrives is not the answer to the question asked. */
function openExchange(stream: Duplex, exited: Promise<TrainerExit>, onBroken: (error: Error) => void) {
  let waiting: { readonly id: number; readonly settle: (outcome: Outcome) => void } | undefined
  const settle = (outcome: Outcome) => {
    waiting?.settle(outcome)
    waiting = undefined
  }
  // One listener for the whole life: a race of each answer against `exited` would keep all of them alive until then.
  let end: Outcome | undefined
  void exited.then((exit) => {
    end = { kind: 'died', exit }
    settle(end)
  })
  const onFrame = (frame: Frame) => {
    const reply = parseReply(frame)
    if (waiting?.id !== frame.id) throw new Error(`an answer that nobody asked for: ${frame.id}`)
    settle({ kind: 'reply', reply })
  }
  const pipe = openPipe(stream, { onFrame, onEnd: (error) => error !== undefined && onBroken(error) })
  // A write that fails means that the child is going; its exit tells why.
  const tell = ({ chunks }: Question) => void pipe.send(chunks).catch(() => undefined)
  const ask = (question: Question) =>
    new Promise<Outcome>((resolve) => {
      if (end !== undefined) return resolve(end)
      waiting = { id: question.id, settle: resolve }
      tell(question)
    })
  return { ask, tell }
}

/** Calls `onLate` after `ms`, unless the function returned was called first. */
function deadline(clock: Clock, ms: number, onLate: () => void): () => void {
  const cancel = new AbortController()
  clock.sleep(ms, cancel.signal).then(onLate, () => undefined)
  return () => cancel.abort()
}

/** Resolves when the process is gone and what it printed was read. */
function exitOf(child: ChildProcess, clock: Clock): Promise<Pick<TrainerExit, 'code' | 'signal'>> {
  return new Promise((resolve) => {
    child.once('error', () => child.pid === undefined && resolve({ code: null, signal: null }))
    child.once('exit', (code, signal) => {
      // A grandchild that inherited the output would hold `close` back for ever.
      const drained = deadline(clock, OUTPUT_DRAIN_MS, () => resolve({ code, signal }))
      child.once('close', () => {
        drained()
        resolve({ code, signal })
      })
    })
  })
}
