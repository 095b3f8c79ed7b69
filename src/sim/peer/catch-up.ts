import { type Rng, seededRng } from '../../base/rng.js'
import { CATCH_UP_SOURCES, type CatchUpReason, caughtUp } from '../../consensus/catch-up/catch-up.js'
import {
  type CatchUpCourse,
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
import { isOddOneOut } from '../../consensus/rules/radius.js'
import type { PeerState } from '../../consensus/catch-up/state-answer.js'
import { joinsAt } from './churn.js'
import type { PeerIndex } from '../world/network.js'
import { type Inner, type Life, noteMoved, nowOf, type SimCatchUp } from './peer-state.js'

type Done = (outcome: 'moved' | 'stayed') => void

interface Looker {
  readonly inner: Inner
  readonly rng: Rng
  readonly localSteps: number
  course: CatchUpCourse
}

/** One look at others, under way. */
interface Look {
  readonly life: Life
  readonly reason: CatchUpReason
  readonly asked: readonly PeerIndex[]
  readonly done: Done
}

/**
 * The decisions of the daemon's catch-up, with callbacks in the place of promises. `savedAtMs`: when the last life ended, by the peer's own
 * clock; absent at the first.
 */
export function createSimCatchUp(inner: Inner, savedAtMs: number | undefined): SimCatchUp {
  const { world, index, lives } = inner
  // Who begins with all others is not late, and need not ask.
  const late = savedAtMs === undefined && joinsAt(world.scenario, index) > 0
  const looker: Looker = {
    inner,
    rng: seededRng(world.scenario.seed, 'catch-up', index, lives),
    localSteps: world.config.localSteps ?? 1,
    course: catchUpCourse(nowOf(inner), { late, ...(savedAtMs === undefined ? {} : { savedAtMs }) })
  }
  return {
    exchanged(life) {
      looker.course = exchanged(looker.course, sceneOf(looker, life))
    },
    due(life) {
      // Asked at every attempt: most have nothing to look for, and need not look who is there.
      if (life.rounds.exchanges === 0 && looker.course.pending === undefined) return undefined
      return dueCatchUp(looker.course, sceneOf(looker, life))
    },
    run(life, reason, done) {
      looker.course = looked(looker.course, nowOf(inner))
      const asked = looker.rng.shuffle(members(inner)).slice(0, CATCH_UP_SOURCES)
      const look: Look = { life, reason, asked, done }
      if (reason === 'newcomer') askPlaces(looker, look)
      else askStates(looker, look)
    }
  }
}

const members = ({ world, index }: Inner): readonly PeerIndex[] =>
  world.neighbours(index).filter((peer) => world.network.connected(index, peer))

const sceneOf = ({ inner, localSteps }: Looker, { rounds, table, exchanger }: Life): CourseScene => ({
  nowMs: nowOf(inner),
  rounds,
  localSteps,
  exchangedAtMs: [...table.exchanged.values()].map(({ atMs }) => atMs),
  others: members(inner).length,
  oddOneOut: isOddOneOut(exchanger.state().distances)
})

/** How far others are comes first: a newcomer that is not behind has nothing to ask their states for. */
function askPlaces(looker: Looker, look: Look): void {
  const { inner, localSteps } = looker
  const { life, asked, done } = look
  const placeOf = (peer: PeerIndex, answer: (place: PlaceHeard | undefined) => void): void =>
    life.states.askPlace(peer, (place) => answer(place && { peer: inner.world.names[peer]!, step: place.step }))
  gather(asked, placeOf, (places) => {
    if (life.over) return
    const { step } = life.rounds
    const [next, then] = placesHeard(looker.course, { nowMs: nowOf(inner), step, localSteps, places })
    looker.course = next
    if (then === 'ask') return askStates(looker, look)
    if (then === 'stay') return done('stayed')
    later(inner, look)
  })
}

function askStates(looker: Looker, look: Look): void {
  const { inner } = looker
  const { life, reason, asked, done } = look
  gather(asked, life.states.ask, (states) => {
    if (life.over) return
    const outcome = enoughStates(reason, asked.length, states.length) ? 'moved' : 'stayed'
    looker.course = settled(looker.course, outcome, nowOf(inner))
    if (outcome === 'moved') moveBy(inner, look, states)
    if (outcome === 'stayed' && looker.course.pending !== undefined) return later(inner, look)
    done(outcome)
  })
}

/** A newcomer that has found too few looks again after a while. */
function later({ world }: Inner, { life, done }: Look): void {
  world.clock.after(GATHER_RETRY_MS, () => {
    if (!life.over) done('stayed')
  })
}

function moveBy(inner: Inner, { life, reason }: Look, states: readonly PeerState[]): void {
  const { world, index, parameters } = inner
  const positions = { own: parameters, states: states.map(({ vector }) => vector) }
  const { target } = caughtUp(reason, positions, world.config.measure ?? euclidean)
  const before = parameters.slice()
  for (let k = 0; k < parameters.length; k++) parameters[k] = parameters[k]! + (target[k]! - before[k]!)
  // Not an exchange: nobody else moves, so the mean does, by this.
  noteMoved(inner, (k) => parameters[k]! - before[k]!)
  life.exchanger.moved()
  world.observer.note(index, `caught up as ${reason} by ${states.length}`)
  world.observer.count(`caught up ${reason}`)
}

/** Answers of those that answer, in the order in which they were asked. */
function gather<Answer>(
  asked: readonly PeerIndex[],
  ask: (peer: PeerIndex, done: (answer: Answer | undefined) => void) => void,
  done: (answers: readonly Answer[]) => void
): void {
  const answers: (Answer | undefined)[] = asked.map(() => undefined)
  let left = asked.length
  if (left === 0) return done([])
  asked.forEach((peer, i) => {
    ask(peer, (answer) => {
      answers[i] = answer
      if (--left === 0) done(answers.filter((one) => one !== undefined))
    })
  })
}
