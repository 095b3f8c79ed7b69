import { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { PeertuneError } from '../../base/errors.js'
import { encodeFrame, type Frame } from './frame.js'
import { openPipe } from './pipe.js'
import { failureOf, parseRequest, replyFrame, type Reply } from './protocol.js'
import type { Trainer, TrainerSpec } from '../trainer.js'

export type OpenTrainer = (spec: TrainerSpec) => Promise<Trainer>

/** The file descriptor of the child's end of the pipe; 0 to 2 are stdin, stdout and stderr. */
const TRAINER_PIPE_FD = 3

/** The node asks one question at a time and may add a stop; more than a few waiting means that it went wrong. */
const MAX_WAITING_REQUESTS = 4

/**
 * The child's side: opens the trainer asked for and answers steps and evaluations one by one.
 * Resolves when told to stop (the trainer is then closed), and at once when the node is gone.
 * Rejects when the stream carries anything but requests.
 */
function serveTrainer(open: OpenTrainer, stream: Duplex): Promise<void> {
  return new Promise((resolve, reject) => {
    const answer = createAnswerer(open)
    let busy = Promise.resolve()
    let waiting = 0
    const pipe = openPipe(stream, {
      onFrame(frame) {
        if (++waiting > MAX_WAITING_REQUESTS) return reject(tooMany(waiting))
        busy = busy.then(() => serve(frame)).catch(reject)
      },
      onEnd: (error) => (error === undefined ? resolve() : reject(error))
    })
    async function serve(frame: Frame) {
      const reply = await answer(frame)
      waiting--
      if (reply === undefined) return resolve()
      // Gradients may lie in a buffer that the trainer uses again: the next request waits until they are sent.
      await pipe.send(encodeFrame(replyFrame(reply, frame.id)))
    }
  })
}

/** Nothing is returned for `stop`, after the trainer was closed. */
function createAnswerer(open: OpenTrainer) {
  let trainer: Trainer | undefined
  const opened = (): Trainer => {
    if (trainer !== undefined) return trainer
    throw new PeertuneError('train/not-open', 'the trainer was asked for work before it was opened')
  }
  return async (frame: Frame): Promise<Reply | undefined> => {
    const request = parseRequest(frame)
    try {
      if (request.kind === 'stop') return void (await trainer?.close())
      if (request.kind === 'open') {
        trainer = await open(request.spec)
        return { kind: 'ready', description: trainer.description }
      }
      const { parameters, batch } = request
      if (request.kind === 'step')
        return { kind: 'stepped', result: await opened().step(parameters, batch), peakMb: peakMb() }
      return { kind: 'evaluated', result: await opened().evaluate(parameters, batch), peakMb: peakMb() }
    } catch (error) {
      return { kind: 'failed', failure: failureOf(error) }
    }
  }
}

/** Node gives kilobytes on every system. */
const peakMb = (): number => process.resourceUsage().maxRSS / 1024

function tooMany(waiting: number): PeertuneError {
  return new PeertuneError('train/too-many-requests', 'the node asks faster than the trainer answers', {
    facts: { waiting, max: MAX_WAITING_REQUESTS }
  })
}

/** The whole life of a trainer process, as its entry file starts it. Leaves when the node does: no orphans. */
export async function runTrainerProcess(open: OpenTrainer): Promise<never> {
  // Ctrl-C and service managers signal the whole group; the node decides when its trainer stops.
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => undefined)
  await serveTrainer(open, new Socket({ fd: TRAINER_PIPE_FD, readable: true, writable: true }))
  process.exit(0)
}
