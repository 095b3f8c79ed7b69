import { seededRng } from '../../base/rng.js'
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
import { isOddOneOut } from '../../consensus/rules/radius.js'
import type { PeerState } from '../../consensus/catch-up/state-answer.js'
import { joinsAt } from './churn.js'
import type { PeerIndex } from '../world/network.js'
import { type Inner, type Life, noteMoved, nowOf, type SimCatchUp } from './peer-state.js'

/**
 * The decisions of the daemon's catch-up, with callbacks in the place of promises. `savedAtMs`: when the last life ended, by the peer's own
 * clock; absent at the first.
 */
export function createSimCatchUp(inner: Inner, savedAtMs: number | undefined): SimCatchUp {
  const { world, index, lives } = inner
  const rng = seededRng(world.scenario.seed, 'catch-up', index, lives)
  const localSteps = world.config.localSteps ?? 1
  // Who begins with all others is not late, and need not ask.
  const late = savedAtMs === undefined && joinsAt(world.scenario, index) > 0
  let course = catchUpCourse(nowOf(inner), { late, ...(savedAtMs === undefined ? {} : { savedAtMs }) })

  const members = (): readonly PeerIndex[] =>
    world.neighbours(index).filter((peer) => world.network.connected(index, peer))

  const scene = ({ rounds, table, exchanger }: Life): CourseScene => ({
    nowMs: nowOf(inner),
    rounds,
    localSteps,
    exchangedAtMs: [...table.exchanged.values()].map(({ atMs }) => atMs),
    others: members().length,
    oddOneOut: isOddOneOut(exchanger.state().distances)
  })

  function moveBy(life: Life, reason: CatchUpReason, states: readonly PeerState[]): void {
    const { parameters } = inner
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

  /** A newcomer that has found too few looks again after a while. */
  function later(life: Life, done: Done): void {
    world.clock.after(GATHER_RETRY_MS, () => {
      if (!life.over) done('stayed')
    })
  }

  const placeOf =
    ({ states }: Life) =>
    (peer: PeerIndex, done: (place: PlaceHeard | undefined) => void): void =>
      states.askPlace(peer, (place) => done(place && { peer: world.names[peer]!, step: place.step }))

  function look(life: Life, reason: CatchUpReason, asked: readonly PeerIndex[], done: Done): void {
    const { ask } = life.states
    gather(asked, ask, (states) => {
      if (life.over) return
      const outcome = enoughStates(reason, asked.length, states.length) ? 'moved' : 'stayed'
      course = settled(course, outcome, nowOf(inner))
      if (outcome === 'moved') moveBy(life, reason, states)
      if (outcome === 'stayed' && course.pending !== undefined) return later(life, done)
      done(outcome)
    })
  }

  return {
    exchanged(life) {
      course = exchanged(course, scene(life))
    },
    due(life) {
      // Asked at every attempt: most have nothing to look for, and need not look who is there.
      if (life.rounds.exchanges === 0 && course.pending === undefined) return undefined
      return dueCatchUp(course, scene(life))
    },
    run(life, reason, done) {
      course = looked(course, nowOf(inner))
      const asked = rng.shuffle(members()).slice(0, CATCH_UP_SOURCES)
      if (reason !== 'newcomer') return look(life, reason, asked, done)
      gather(asked, placeOf(life), (places) => {
        if (life.over) return
        const { step } = life.rounds
        const [next, then] = placesHeard(course, { nowMs: nowOf(inner), step, localSteps, places })
        course = next
        if (then === 'ask') return look(life, reason, asked, done)
        if (then === 'stay') return done('stayed')
        later(life, done)
      })
    }
  }
}

type Done = (outcome: 'moved' | 'stayed') => void

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
