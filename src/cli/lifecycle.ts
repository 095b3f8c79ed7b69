import type { Logger } from '../base/log.js'
import type { PeertuneNode } from '../node/types.js'
import { EXIT_FAILURE, EXIT_OK } from './failure.js'

/** The process as far as a running node is concerned. */
export interface Host {
  onSignal(listener: (signal: StopSignal) => void): () => void
  /** Ends the process now. */
  exit(code: number): void
  /** Calls back after `ms` unless the process has ended before. */
  after(ms: number, callback: () => void): void
}

export type StopSignal = 'SIGINT' | 'SIGTERM'

/** 128 + the signal's number, as shells count. */
const SIGNAL_EXIT_CODE: Readonly<Record<StopSignal, number>> = { SIGINT: 130, SIGTERM: 143 }

/** Milliseconds a node gets to write its checkpoint and leave; service managers kill after 10 s or more. */
export const STOP_TIMEOUT_MS = 9_000

/**
 * Starts the node and stays until it has stopped; resolves with the exit code. The first signal stops it gracefully,
 * the second ends the process at once, and so does a graceful stop that takes longer than `STOP_TIMEOUT_MS`.
 */
export async function runNode(
  node: PeertuneNode,
  { host, log, started }: { readonly host: Host; readonly log: Logger; readonly started: () => Promise<void> }
): Promise<number> {
  let stopping: { readonly signal: StopSignal; readonly stopped: Promise<void> } | undefined
  const forget = host.onSignal((signal) => {
    if (stopping !== undefined) return host.exit(SIGNAL_EXIT_CODE[signal])
    log.info({ signal }, 'stopping: writing a checkpoint and leaving; the same again quits at once')
    stopping = { signal, stopped: node.stop(signal) }
    host.after(STOP_TIMEOUT_MS, () => {
      log.error({ waitedMs: STOP_TIMEOUT_MS }, 'could not stop in time')
      host.exit(EXIT_FAILURE)
    })
    // A failure to stop is reported below; it must not go unhandled meanwhile.
    stopping.stopped.catch(() => undefined)
  })
  try {
    await startUnlessStopped(node, started, () => stopping !== undefined)
    await (stopping?.stopped ?? node.done)
    await stopping?.stopped
    return stopping === undefined ? EXIT_OK : SIGNAL_EXIT_CODE[stopping.signal]
  } finally {
    forget()
  }
}

/** A signal may come while the node starts; what the start then says is of no interest. */
async function startUnlessStopped(
  node: PeertuneNode,
  started: () => Promise<void>,
  isStopping: () => boolean
): Promise<void> {
  node.done.catch(() => undefined)
  try {
    await node.start()
    if (!isStopping()) await started()
  } catch (error) {
    if (isStopping()) return
    await node.stop('start failed').catch(() => undefined)
    throw error
  }
}

/** The real process. */
export const processHost: Host = {
  onSignal(listener) {
    process.on('SIGINT', listener)
    process.on('SIGTERM', listener)
    return () => {
      process.off('SIGINT', listener)
      process.off('SIGTERM', listener)
    }
  },
  exit: (code) => process.exit(code),
  after: (ms, callback) => void setTimeout(callback, ms).unref()
}
