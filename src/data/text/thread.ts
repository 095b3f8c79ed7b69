import '../../base/polyfill.js'
import { parentPort, workerData } from 'node:worker_threads'
import { failureOf } from '../../base/thread-failure.js'
import type { TextSpec } from '../spec.js'
import type { TextReply } from './off-thread.js'
import { packTextFile } from './text.js'

/** Entry file of a thread that reads one text; see off-thread.ts for the other side. */

const reply = await packTextFile(workerData as TextSpec).then(
  (text): TextReply => ({ text }),
  (error: unknown): TextReply => ({ failure: failureOf(error) })
)
parentPort?.postMessage(reply, 'text' in reply ? [reply.text.training.buffer, reply.text.heldOut.buffer] : [])
