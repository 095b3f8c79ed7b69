import type { Clock } from '../../base/clock.js'
import type { Logger } from '../../base/log.js'
import type { Rng } from '../../base/rng.js'
import { CATCH_UP_SOURCES, type CatchUpReason, caughtUp } from '../../consensus/catch-up/catch-up.js'
import {
  type CourseScene,
  catchUpCourse,
  dueCatchUp,
  enoughStates,
  exchanged,
  GATHER_RETRY_MS,
  looked,
  type PlaceHeard,
  placesHeard,
  settled
} from '../../consensus/catch-up/course.js'
import { euclidean } from '../../consensus/rules/distance.js'
import type { ExchangeConfig } from '../../consensus/exchange/types.js'
import type { RoundsState } from '../../consensus/rounds.js'
import type { ExchangeDriver, ParameterHolder } from '../participant/exchange-types.js'
import type { PeerId } from '../../gossip/transport.js'
import type { CatchUpReport } from '../participant/types.js'
import type { Membership } from '../peers/membership.js'
import type { PeerState } from '../../consensus/catch-up/state-answer.js'
import type { StateReader } from './state-reader.js'

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

/** Brings a peer that has fallen behind to where the others are, by the states of several of them (consensus/catch-up/catch-up.ts). */
export interface CatchUp {
  /** Why it is time to look, if it is; at the beginning of the first life it always is, until enough were heard. */
  due(): CatchUpReason | undefined
  /** An exchange has been made and is noted nowhere yet. */
  exchanged(): void
  /** Looks, and moves where we are behind. No exchange should be made meanwhile. A run under way is returned. */
  run(reason: CatchUpReason): Promise<'moved' | 'stayed'>
  last(): CatchUpReport | undefined
}

export function createCatchUp(parts: CatchUpParts): CatchUp {
  const { clock, membership, driver, config, log } = parts
  const localSteps = config.localSteps ?? 1
  const { savedAtMs } = parts
  let course = catchUpCourse(clock.now(), savedAtMs === undefined ? {} : { savedAtMs })
  let last: CatchUpReport | undefined
  let underWay: Promise<'moved' | 'stayed'> | undefined

  const scene = (): CourseScene => ({
    nowMs: clock.now(),
    rounds: parts.rounds(),
    localSteps,
    exchangedAtMs: [...membership.table().exchanged.values()].map(({ atMs }) => atMs),
    others: membership.members().length,
    oddOneOut: driver.oddOneOut()
  })

  async function run(reason: CatchUpReason): Promise<'moved' | 'stayed'> {
    course = looked(course, clock.now())
    const asked = parts.rng.shuffle(membership.members()).slice(0, CATCH_UP_SOURCES)
    if (reason === 'newcomer') {
      const places = await askPlaces(parts, asked)
      const { step } = parts.rounds()
      const [next, then] = placesHeard(course, { nowMs: clock.now(), step, localSteps, places })
      course = next
      if (then === 'gather') await clock.sleep(GATHER_RETRY_MS)
      if (then !== 'ask') return 'stayed'
    }
    const states = await askSeveral(parts, asked)
    const outcome = enoughStates(reason, asked.length, states.length) ? 'moved' : 'stayed'
    course = settled(course, outcome, clock.now())
    if (outcome === 'stayed') {
      log.info({ reason, asked: asked.length, states: states.length }, 'too few states to catch up by')
      if (course.pending !== undefined) await clock.sleep(GATHER_RETRY_MS)
      return 'stayed'
    }
    moveTo(reason, states)
    return 'moved'
  }

  /** All in one tick: what is added is the way from where we are now. */
  function moveTo(reason: CatchUpReason, states: readonly PeerState[]): void {
    const own = parts.holder.parameters()
    const positions = { own, states: states.map(({ vector }) => vector) }
    const { target, distance, kept } = caughtUp(reason, positions, config.measure ?? euclidean)
    parts.holder.add(target.map((value, i) => value - own[i]!))
    driver.moved()
    last = { reason, atMs: clock.now(), sources: states.length, distance, kept }
    log.info({ ...last }, 'caught up with the others')
  }

  return {
    due: () => dueCatchUp(course, scene()),
    exchanged() {
      course = exchanged(course, scene())
    },
    run(reason) {
      underWay ??= run(reason).finally(() => {
        underWay = undefined
      })
      return underWay
    },
    last: () => last
  }
}

/** Of those that say how far they are. */
async function askPlaces({ reader }: CatchUpParts, asked: readonly PeerId[]): Promise<readonly PlaceHeard[]> {
  const answers = await Promise.all(asked.map(async (peer) => ({ peer, place: await reader.askPlace(peer) })))
  return answers.flatMap(({ peer, place }) => (place.ok ? [{ peer, step: place.value.step }] : []))
}

/** Those that do not answer are left out. */
async function askSeveral({ reader }: CatchUpParts, asked: readonly PeerId[]): Promise<readonly PeerState[]> {
  const answers = await Promise.all(asked.map((peer) => reader.ask(peer)))
  return answers.flatMap((answer) => (answer.ok ? [answer.value] : []))
}
