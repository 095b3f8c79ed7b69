import '../../base/polyfill.js'
import { parentPort, workerData } from 'node:worker_threads'
import { failureOf } from '../../base/thread-failure.js'
import type { Side } from '../../consensus/exchange/types.js'
import type { MixedSides } from '../../consensus/exchange/encoded-side.js'
import { type ExchangeTask, perform, type TaskResults } from '../../consensus/exchange/tasks.js'
import { shareable, taskConfig, type TaskReply, type TaskRequest, wholeBuffers } from './tasks.js'
import type { ExchangeTasksInit } from '../participant/exchange-types.js'

/** Entry file of the exchange thread; see tasks.ts for the other side. */

interface Parcel {
  readonly result: TaskResults[keyof TaskResults]
  readonly handedOver: ArrayBuffer[]
}

/** The two vectors of an exchange go back and forth, and into the memory of an edge: they are shared, copied only here. */
const sideParcel = (side: Side): Side => ({ ...side, vector: shareable(side.vector) })

function parcel(task: ExchangeTask['task'], result: TaskResults[keyof TaskResults]): Parcel {
  if (task === 'own-side') {
    const side = sideParcel(result as Side)
    return { result: side, handedOver: wholeBuffers(side.payload) }
  }
  if (task === 'partner-side') {
    const side = result as TaskResults['partner-side']
    return side.ok
      ? { result: { ok: true, value: sideParcel(side.value) }, handedOver: [] }
      : { result, handedOver: [] }
  }
  if (task === 'mix') {
    const mixed = result as TaskResults['mix']
    return { result, handedOver: mixed.ok ? wholeBuffers((mixed.value as MixedSides).increment) : [] }
  }
  return { result, handedOver: [] }
}

const config = taskConfig(workerData as ExchangeTasksInit)
parentPort?.on('message', ({ id, task }: TaskRequest) => {
  try {
    const { result, handedOver } = parcel(task.task, perform(config, task))
    parentPort?.postMessage({ id, result } satisfies TaskReply, handedOver)
  } catch (error) {
    parentPort?.postMessage({ id, failure: failureOf(error) } satisfies TaskReply)
  }
})
