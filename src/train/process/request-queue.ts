import type { Clock } from '../../base/clock.js'
import { PeertuneError } from '../../base/errors.js'
import type { Logger } from '../../base/log.js'
import { encodeFrame } from './frame.js'
import { requestFrame, type Reply, type Request } from './protocol.js'
import type { Outcome, Question, TrainerExit } from './trainer-process.js'

/** Fresh processes for one request; a batch or a driver that kills four in a row will kill the fifth. */
export const MAX_RESTARTS_IN_A_ROW = 3
/** Requests that wait for the one under way, each with its own copy of the parameters. One loop asks; nobody queues up. */
const MAX_QUEUED_REQUESTS = 4
/** Before the first restart, doubled before each further one: time for a driver to come back or memory to be freed. */
export const RESTART_BACKOFF_MS = 500

export type Died = Extract<Outcome, { kind: 'died' }>

/** Where every request ended: asked = answered + refused + cancelled + lost + waiting. */
export interface RequestTally {
  readonly asked: number
  /** With a result. */
  readonly answered: number
  /** With the trainer's own error, or before anything was sent. */
  readonly refused: number
  /** By whoever asked; the answer, if one came, was dropped. */
  readonly cancelled: number
  /** Because processes kept dying, or the trainer was closed. */
  readonly lost: number
  readonly waiting: number
}

export interface RequestQueue {
  /** Throws `train/too-many-requests`, `train/trainer-keeps-dying`, `train/closed` and the signal's reason. */
  put(request: Request, signal?: AbortSignal): Promise<Reply>
  /** Repeats what may die, at most MAX_RESTARTS_IN_A_ROW times. */
  untilAlive<T extends { kind: string }>(attempt: () => Promise<T | Died>): Promise<Exclude<T, Died>>
  tally(): RequestTally
  close(): void
  settled(): Promise<unknown>
}

/** One request at a time, in order, each put to fresh processes until one answers. */
export function createRequestQueue(
  { clock, log }: { readonly clock: Clock; readonly log: Logger },
  ask: (question: Question) => Promise<Outcome>
): RequestQueue {
  const closing = new AbortController()
  const tally = { asked: 0, answered: 0, refused: 0, cancelled: 0, lost: 0, waiting: 0 }
  let last: Promise<unknown> = Promise.resolve()
  let queued = 0
  let nextId = 1

  const untilAlive: RequestQueue['untilAlive'] = async (attempt) => {
    for (let deaths = 1; ; deaths++) {
      closing.signal.throwIfAborted()
      const outcome = await attempt()
      if (!isDied(outcome)) return outcome as Exclude<typeof outcome, Died>
      closing.signal.throwIfAborted()
      if (deaths > MAX_RESTARTS_IN_A_ROW) throw keepsDying(outcome.exit, deaths)
      log.info({ deaths, maxRestarts: MAX_RESTARTS_IN_A_ROW }, 'starting another trainer process')
      await clock.sleep(RESTART_BACKOFF_MS * 2 ** (deaths - 1), closing.signal)
    }
  }

  async function enqueue(request: Request, signal: AbortSignal | undefined): Promise<Reply> {
    closing.signal.throwIfAborted()
    signal?.throwIfAborted()
    if (queued > MAX_QUEUED_REQUESTS) throw tooMany(queued)
    const id = nextId++ >>> 0
    // The copy is what a fresh process gets when this one dies, though the node's vector has moved on by then.
    const chunks = encodeFrame(requestFrame(request, id)).map((chunk) => chunk.slice())
    queued++
    const answer = last.then(() => {
      // Cancelled while it waited: nothing is sent.
      signal?.throwIfAborted()
      return untilAlive(() => ask({ id, chunks }))
    })
    last = answer.then(
      () => queued--,
      () => queued--
    )
    return (await unlessAborted(answer, signal)).reply
  }

  return {
    untilAlive,
    async put(request, signal) {
      tally.asked++
      tally.waiting++
      try {
        const reply = await enqueue(request, signal)
        tally[reply.kind === 'failed' ? 'refused' : 'answered']++
        return reply
      } catch (error) {
        tally[fateOf(error, signal)]++
        throw error
      } finally {
        tally.waiting--
      }
    },
    tally: () => ({ ...tally }),
    close: () => closing.abort(closed()),
    settled: () => last
  }
}

/** Gives up waiting, not the work: a step under way cannot be stopped, and its answer must be read. */
function unlessAborted<T>(work: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return work
  return new Promise((resolve, reject) => {
    const onAbort = () => reject(signal.reason)
    signal.addEventListener('abort', onAbort, { once: true })
    work.then(resolve, reject).finally(() => signal.removeEventListener('abort', onAbort))
  })
}

function fateOf(error: unknown, signal: AbortSignal | undefined): 'cancelled' | 'lost' | 'refused' {
  if (signal?.aborted && error === signal.reason) return 'cancelled'
  return error instanceof PeertuneError && error.code === 'train/too-many-requests' ? 'refused' : 'lost'
}

const isDied = (outcome: { readonly kind: string }): outcome is Died => outcome.kind === 'died'

export function endFacts({ pid, code, signal, reason, lastLines }: TrainerExit) {
  return { pid, code: code ?? undefined, signal: signal ?? undefined, reason, lastLines }
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

function tooMany(queued: number): PeertuneError {
  return new PeertuneError('train/too-many-requests', 'more is asked of the trainer than it can answer', {
    facts: { queued, max: MAX_QUEUED_REQUESTS }
  })
}

const closed = () => new PeertuneError('train/closed', 'the trainer is closed')
