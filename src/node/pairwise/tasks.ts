import { Worker } from 'node:worker_threads'
import { PeertuneError } from '../../base/errors.js'
import { errorOf, type ThreadFailure } from '../../base/thread-failure.js'
import type { ExchangeConfig } from '../../consensus/exchange/types.js'
import type { ExchangeTask, TaskResults } from '../../consensus/exchange/tasks.js'
import type { ExchangeTasks, ExchangeTasksInit } from '../participant/exchange-types.js'
import { mixingConfig } from './exchange-config.js'

/**
 * Parameters from which an exchange's arithmetic is done on another thread. Coding, hashing and measuring take some 50 ms a
 * million parameters; below this, less than the copy of the thread's memory is worth.
 */
export const MIN_OFFLOADED_PARAMETERS = 131_072

/** The configuration as `createExchangeDriver` has it. */
export const taskConfig = ({ config, manifest, schema }: ExchangeTasksInit): ExchangeConfig => ({
  ...config,
  schema,
  ...mixingConfig(manifest, { schema, reference: config.reference })
})

/** The vector itself where threads share it already, or a copy that they do. */
export const shareable = (vector: Float32Array): Float32Array =>
  vector.buffer instanceof SharedArrayBuffer ? vector : sharedCopy(vector)

export function sharedCopy(vector: Float32Array): Float32Array {
  const copy = new Float32Array(new SharedArrayBuffer(vector.byteLength))
  copy.set(vector)
  return copy
}

export interface TaskRequest {
  readonly id: number
  readonly task: ExchangeTask
}

export type TaskReply =
  | { readonly id: number; readonly result: TaskResults[keyof TaskResults] }
  | { readonly id: number; readonly failure: ThreadFailure }

/** `entry`: the built file of the thread, `entryUrl('node/pairwise/tasks-main.js')`. The thread starts with the first task. */
export function startExchangeTasks(entry: URL, init: ExchangeTasksInit): ExchangeTasks {
  const waiting = new Map<number, PromiseWithResolvers<TaskResults[keyof TaskResults]>>()
  const shared = { ...init, config: { ...init.config, reference: shareable(init.config.reference) } }
  let nextId = 0
  let thread: Worker | undefined

  function start(): Worker {
    const worker = new Worker(entry, { workerData: shared })
    const lost = (error: Error) => {
      if (thread === worker) thread = undefined
      for (const one of waiting.values()) one.reject(error)
      waiting.clear()
    }
    worker.on('message', (reply: TaskReply) => {
      const one = waiting.get(reply.id)
      waiting.delete(reply.id)
      if ('failure' in reply) one?.reject(errorOf(reply.failure, 'the exchange thread'))
      else one?.resolve(reply.result)
    })
    worker.on('error', lost)
    worker.on('exit', () => lost(new PeertuneError('node/exchange-thread-ended', 'the exchange thread has ended')))
    // Whoever waits for a task holds the process up; the thread alone does not.
    worker.unref()
    return worker
  }
  return {
    run(task) {
      thread ??= start()
      const result = Promise.withResolvers<TaskResults[keyof TaskResults]>()
      const request: TaskRequest = { id: nextId++, task }
      waiting.set(request.id, result)
      thread.postMessage(request, task.task === 'partner-side' ? wholeBuffers(task.payload) : [])
      return result.promise
    },
    async close() {
      await thread?.terminate()
    }
  }
}

/** Buffers that hold nothing else and may be handed over instead of copied. */
export const wholeBuffers = (...views: readonly (Uint8Array | Float32Array | undefined)[]): ArrayBuffer[] =>
  views.flatMap((view) =>
    view?.buffer instanceof ArrayBuffer && view.byteLength === view.buffer.byteLength ? [view.buffer] : []
  )
