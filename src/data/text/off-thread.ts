import { Worker } from 'node:worker_threads'
import { entryUrl } from '../../base/entry.js'
import { PeertuneError } from '../../base/errors.js'
import { errorOf, type ThreadFailure } from '../../base/thread-failure.js'
import type { TextSpec } from '../spec.js'

/** The sequences of a text one behind the other: two vectors that can be handed from thread to thread. */
export interface FlatText {
  readonly training: Int32Array<ArrayBuffer>
  readonly heldOut: Int32Array<ArrayBuffer>
}

export type TextReply = { readonly text: FlatText } | { readonly failure: ThreadFailure }

/**
 * `packTextFile` on a thread of its own: a tokenizer without a pre-tokenizer takes six seconds for a megabyte, in one go, and
 * whoever reads has a network to answer. Throws what it throws, and the signal's reason.
 */
export async function packTextElsewhere(spec: TextSpec, signal?: AbortSignal): Promise<FlatText> {
  signal?.throwIfAborted()
  const worker = new Worker(entryUrl('data/text/thread.js'), { workerData: spec })
  const answer = Promise.withResolvers<FlatText>()
  worker.once('message', (reply: TextReply) => {
    if ('text' in reply) answer.resolve(reply.text)
    else answer.reject(errorOf(reply.failure, 'the thread that reads the text'))
  })
  worker.once('error', answer.reject)
  worker.once('exit', () =>
    answer.reject(new PeertuneError('data/thread-ended', 'the thread that reads the text has ended'))
  )
  const giveUp = () => answer.reject(signal?.reason)
  signal?.addEventListener('abort', giveUp, { once: true })
  try {
    return await answer.promise
  } finally {
    signal?.removeEventListener('abort', giveUp)
    await worker.terminate()
  }
}
