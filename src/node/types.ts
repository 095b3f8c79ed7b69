import type { Clock } from '../base/clock.js'
import type { Logger } from '../base/log.js'
import type { Status } from '../status/snapshot.js'
import type { Environment } from './config/config.js'

export interface NodeDeps {
  readonly log?: Logger
  readonly clock?: Clock
  /** Where the Hugging Face hub and its cache are (HF_ENDPOINT, HF_TOKEN, HF_HOME, ...); the process's own by default. */
  readonly env?: Environment
}

/** One participant of a federation, wired and ready to start. */
export interface PeertuneNode {
  /**
   * Resolves once it listens, has announced where (data-dir.ts) and answers for its status, or was stopped meanwhile. Rejects
   * when everything that it had opened is closed again.
   */
  start(): Promise<void>
  /** Writes a checkpoint and leaves. Idempotent; resolves when everything is closed. */
  stop(reason?: string): Promise<void>
  status(): Status
  /** Settles when the node has stopped, for whatever reason; rejects with what ended it if that was a failure. */
  readonly done: Promise<void>
}
