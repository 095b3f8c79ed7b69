import type { Clock } from '../base/clock.js'
import type { Logger } from '../base/log.js'
import type { Rng } from '../base/rng.js'
import {
  CATCH_UP_QUORUM,
  CATCH_UP_SOURCES,
  type CatchUpReason,
  catchUpReason,
  caughtUp,
  GATHER_MS,
  isBehind
} from '../consensus/catch-up.js'
import { euclidean } from '../consensus/distance.js'
import type { ExchangeConfig } from '../consensus/exchange-types.js'
import type { RoundsState } from '../consensus/rounds.js'
import type { ExchangeDriver, ParameterHolder } from './exchange-types.js'
import type { PeerId } from '../gossip/transport.js'
import type { Membership } from './membership.js'
import type { PeerState, StateReader } from './state-reader.js'

/** Milliseconds before a newcomer that is behind and has found too few peers looks for more. */
const GATHER_RETRY_MS = 1_000

export interface CatchUpParts {
  readonly config: ExchangeConfig
  readonly reader: Pick<StateReader, 'ask' | 'askPlace'>
  readonly membership: Pick<Membership, 'members' | 'table'>
  readonly driver: Pick<ExchangeDriver, 'oddOneOut' | 'moved'>
  readonly holder: ParameterHolder
  readonly rounds: () => RoundsState
  /** Milliseconds since the epoch when the last life ended; absent at the first. */
  readonly savedAtMs?: number
  readonly clock: Clock
  readonly rng: Rng
  readonly log: Logger
}

/** The last time this node looked at others' states and moved. */
export interface CatchUpReport {
  readonly reason: CatchUpReason
  readonly atMs: number
  /** States it went by. */
  readonly sources: number
  /** From where we were to their middle. */
  readonly distance: number
  /** Share of that way that was kept as ours. */
  readonly kept: number
}

/** Brings a peer that has fallen behind to where the others are, by the states of several of them (consensus/catch-up.ts). */
export interface CatchUp {
  /** Why it is time to look, if it is; before the first exchange it always is, once. */
  due(): CatchUpReason | undefined
  /** Looks, and moves where we are behind. No exchange should be made meanwhile. A run under way is returned. */
  run(reason: CatchUpReason): Promise<'moved' | 'stayed'>
  last(): CatchUpReport | undefined
}

export function createCatchUp(parts: CatchUpParts): CatchUp {
  const { clock, membership, driver, config, log } = parts
  const startedAtMs = clock.now()
  let triedAtMs = Number.NEGATIVE_INFINITY
  /** A newcomer looks until it knows that it is not behind, or no longer. */
  let settledIn = parts.savedAtMs !== undefined
  let last: CatchUpReport | undefined
  let underWay: Promise<'moved' | 'stayed'> | undefined

  const due = (): CatchUpReason | undefined => {
    const { step, lastExchangeStep, exchanges, phase } = parts.rounds()
    const othersKnown = membership.members().length > 0
    if (phase === 'done' || !othersKnown) return undefined
    if (exchanges === 0) return settledIn ? undefined : 'newcomer'
    const nowMs = clock.now()
    return catchUpReason({
      step,
      lastExchangeStep,
      localSteps: config.localSteps ?? 1,
      awayMs: nowMs - lastExchangeAtMs(parts, nowMs),
      sinceCatchUpMs: nowMs - triedAtMs,
      othersKnown,
      oddOneOut: driver.oddOneOut()
    })
  }

  async function run(reason: CatchUpReason): Promise<'moved' | 'stayed'> {
    triedAtMs = clock.now()
    const asked = parts.rng.shuffle(membership.members()).slice(0, CATCH_UP_SOURCES)
    if (reason === 'newcomer') {
      const behind = await isLate(parts, asked)
      settledIn = !behind || asked.length >= CATCH_UP_QUORUM || clock.now() - startedAtMs >= GATHER_MS
      if (!behind) return 'stayed'
      if (!settledIn) {
        await clock.sleep(GATHER_RETRY_MS)
        return 'stayed'
      }
    }
    const states = await askSeveral(parts, asked)
    if (states.length === 0 || states.length < Math.min(CATCH_UP_QUORUM, asked.length)) {
      log.info({ reason, asked: asked.length, states: states.length }, 'too few states to catch up by')
      return 'stayed'
    }
    moveTo(reason, states)
    return 'moved'
  }

  /** All in one tick: what is added is the way from where we are now. */
  function moveTo(reason: CatchUpReason, states: readonly PeerState[]): void {
    const own = parts.holder.parameters()
    const vectors = states.map(({ vector }) => vector)
    const { target, distance, kept } = caughtUp(reason, own, vectors, config.measure ?? euclidean)
    parts.holder.add(target.map((value, i) => value - own[i]!))
    driver.moved()
    last = { reason, atMs: clock.now(), sources: states.length, distance, kept }
    log.info({ ...last }, 'caught up with the others')
  }

  return {
    due,
    run(reason) {
      underWay ??= run(reason).finally(() => {
        underWay = undefined
      })
      return underWay
    },
    last: () => last
  }
}

/** Before the first exchange of a life: the end of the last one. */
function lastExchangeAtMs({ membership, savedAtMs }: CatchUpParts, nowMs: number): number {
  const times = [...membership.table().exchanged.values()].map(({ atMs }) => atMs)
  return Math.max(...times, savedAtMs ?? (times.length === 0 ? nowMs : Number.NEGATIVE_INFINITY))
}

async function isLate({ reader, rounds, config }: CatchUpParts, asked: readonly PeerId[]): Promise<boolean> {
  const answers = await Promise.all(asked.map((peer) => reader.askPlace(peer)))
  const steps = answers.flatMap((answer) => (answer.ok ? [answer.value.step] : []))
  return isBehind({ step: rounds().step, localSteps: config.localSteps ?? 1 }, steps)
}

/** Those that do not answer are left out. */
async function askSeveral({ reader }: CatchUpParts, asked: readonly PeerId[]): Promise<readonly PeerState[]> {
  const answers = await Promise.all(asked.map((peer) => reader.ask(peer)))
  return answers.flatMap((answer) => (answer.ok ? [answer.value] : []))
}
