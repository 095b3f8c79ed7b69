import type { Clock } from '../../base/clock.js'
import type { Logger } from '../../base/log.js'
import type { Rng } from '../../base/rng.js'
import { createInterruptibleSleep, type InterruptibleSleep } from './interruptible-sleep.js'
import type { ConnectFailureCode, ConnectOutcome, PeerId } from '../transport.js'

export type BootstrapState =
  | 'dialling'
  /** Not reached; the next attempt is planned. */
  | 'waiting'
  | 'connected'
  /** The address is this node's own: nothing to do. */
  | 'self'
  /** No attempt can succeed: the address itself is wrong. */
  | 'bad-address'

/** For the status page: how one bootstrap address is doing, and why. */
export interface BootstrapDiagnosis {
  readonly address: string
  readonly state: BootstrapState
  /** Attempts since the last connection that lasted. */
  readonly attempts: number
  /** `detail` is a sentence, `at` milliseconds since the epoch. */
  readonly lastFailure?: { readonly code: ConnectFailureCode; readonly detail: string; readonly at: number }
  /** Milliseconds since the epoch; present while waiting. */
  readonly nextAttemptAt?: number
}

export interface BootstrapOptions {
  readonly addresses: readonly string[]
  connect(address: string): Promise<ConnectOutcome>
  /** Peers connected now. */
  connected(): readonly PeerId[]
  readonly clock: Clock
  readonly rng: Rng
  readonly log: Logger
  /** Milliseconds before the second attempt; doubles after every failure. */
  readonly firstDelayMs?: number
  /** Milliseconds the delay never exceeds. */
  readonly maxDelayMs?: number
  /** Milliseconds a connection must hold before its loss counts as a new story instead of another failure. */
  readonly stableMs?: number
}

export interface Bootstrap {
  /** Runs until the signal aborts. */
  run(signal: AbortSignal): Promise<void>
  /** To be called whenever a peer has gone. */
  peerLost(): void
  diagnosis(): readonly BootstrapDiagnosis[]
}

interface Entry {
  readonly address: string
  readonly pause: InterruptibleSleep
  state: BootstrapState
  attempts: number
  peer: PeerId | undefined
  connectedAt: number
  lastFailure: BootstrapDiagnosis['lastFailure']
  nextAttemptAt: number | undefined
}

/**
 * Keeps a connection to every bootstrap address: dials for ever with a capped, jittered, doubling delay, again when the
 * connection is lost, and at once when all peers are lost. Nodes that stop after the first success split into islands
 * that never find each other when a bootstrap node restarts.
 */
export function createBootstrap(options: BootstrapOptions): Bootstrap {
  const entries: Entry[] = options.addresses.map((address) => ({
    address,
    pause: createInterruptibleSleep(options.clock),
    state: 'dialling',
    attempts: 0,
    peer: undefined,
    connectedAt: 0,
    lastFailure: undefined,
    nextAttemptAt: undefined
  }))
  return {
    run: async (signal) => {
      await Promise.all(entries.map((entry) => keep(entry, options, signal)))
    },
    peerLost: () => {
      const alone = options.connected().length === 0
      for (const entry of entries) {
        if (entry.state === 'waiting' && !alone) continue
        if (alone) entry.attempts = 0
        entry.pause.wake()
      }
    },
    diagnosis: () => entries.map(diagnose)
  }
}

const diagnose = ({ address, state, attempts, lastFailure, nextAttemptAt }: Entry): BootstrapDiagnosis => ({
  address,
  state,
  attempts,
  ...(lastFailure === undefined ? {} : { lastFailure }),
  ...(nextAttemptAt === undefined ? {} : { nextAttemptAt })
})

async function keep(entry: Entry, options: BootstrapOptions, signal: AbortSignal): Promise<void> {
  const { clock, connected, maxDelayMs = 30_000, stableMs = 60_000 } = options
  while (!signal.aborted) {
    if (entry.peer !== undefined && connected().includes(entry.peer)) {
      entry.state = 'connected'
      await entry.pause.sleep(maxDelayMs, signal)
      continue
    }
    if (entry.peer !== undefined) {
      // The connection has gone. One that never lasted counts as a failure, or a full node would be dialled every second.
      entry.peer = undefined
      if (clock.now() - entry.connectedAt < stableMs && connected().length > 0) await wait(entry, options, signal)
      continue
    }
    await attempt(entry, options, signal)
    if (entry.state === 'self' || entry.state === 'bad-address') return
  }
}

async function attempt(entry: Entry, options: BootstrapOptions, signal: AbortSignal): Promise<void> {
  const { clock, connect, log, stableMs = 60_000 } = options
  const { address } = entry
  entry.state = 'dialling'
  entry.attempts++
  const outcome = await connect(address)
  if (signal.aborted) return
  if (outcome.ok) {
    log.info({ address, peer: outcome.peer }, 'Connected to a bootstrap address')
    // What was learnt from short connections is kept until one has lasted.
    entry.attempts = clock.now() - entry.connectedAt < stableMs ? entry.attempts : 0
    entry.peer = outcome.peer
    entry.connectedAt = clock.now()
    entry.state = 'connected'
    return
  }
  const { code, detail } = outcome
  const repeated = entry.lastFailure?.code === code
  entry.lastFailure = { code, detail, at: clock.now() }
  if (code === 'self' || code === 'bad-address') {
    entry.state = code
    if (code === 'bad-address') log.error({ address, code }, detail)
    return
  }
  log[repeated ? 'debug' : 'warn']({ address, code, attempts: entry.attempts }, detail)
  await wait(entry, options, signal)
}

async function wait(entry: Entry, options: BootstrapOptions, signal: AbortSignal): Promise<void> {
  const ms = delayMs(entry.attempts, options)
  entry.state = 'waiting'
  entry.nextAttemptAt = options.clock.now() + ms
  await entry.pause.sleep(ms, signal)
  entry.nextAttemptAt = undefined
}

/** Doubling from `firstDelayMs`, at most `maxDelayMs`, and between half and all of that, so that nodes do not dial in step. */
export function delayMs(
  attempts: number,
  { rng, firstDelayMs = 500, maxDelayMs = 30_000 }: Pick<BootstrapOptions, 'rng' | 'firstDelayMs' | 'maxDelayMs'>
): number {
  const full = Math.min(maxDelayMs, firstDelayMs * 2 ** Math.max(0, attempts - 1))
  return full * (0.5 + rng.uniform() / 2)
}
