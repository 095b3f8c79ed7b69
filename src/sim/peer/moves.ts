import { type AttemptResult, choosePartner, noteAttempt } from '../../consensus/partners/partner.js'
import { nextMove, stepTaken, suits, waited } from '../../consensus/rounds.js'
import { indexOf } from './exchanger.js'
import { isMortal } from './churn.js'
import { phaseAt, surroundings } from './announcements.js'
import { inDoubt, type Inner, type Life, noteMoved, nowOf, setRounds } from './peer-state.js'
import type { Learner } from '../world/workload-types.js'

/** Milliseconds until a peer with nothing to do looks again, as in the daemon's loop. */
const IDLE_MS = 60

/** What the daemon's loop does, one move at a time. */
export function move(inner: Inner, life: Life): void {
  const { world } = inner
  if (life.over) return
  const { train, exchange, resolve } = inner.finishing
    ? { train: false, exchange: false, resolve: inDoubt(life).length > 0 }
    : nextMove(life.rounds, surroundings(inner, life), world.rounds)
  if ((exchange || resolve) && !life.attempting) tryExchange(inner, life, { training: train, doubtsOnly: !exchange })
  else if (!train) return later(inner, life, IDLE_MS)
  if (!train) return
  const end = life.learner.begin()
  world.clock.after(inner.stepMs, () => localStep(inner, life, end))
}

function later(inner: Inner, life: Life, delayMs: number): void {
  inner.world.clock.after(delayMs, () => move(inner, life))
}

/** What a step adds may take the trainer real time, in which the virtual one stands still. */
function localStep(inner: Inner, life: Life, end: ReturnType<Learner['begin']>): void | Promise<void> {
  const { world, parameters } = inner
  // An end that came during the step leaves it out: nothing trains any more.
  if (life.over || inner.finishing || !world.workload.trains) return stepped(inner, life)
  const before = Float64Array.from(parameters)
  const { learningRate } = world.scenario.workload
  const { totalSteps } = world.scenario.mixing
  const left = totalSteps === 0 ? 1 : Math.max(0, 1 - life.rounds.step / totalSteps)
  const ended = () => {
    noteMoved(inner, (k) => parameters[k]! - before[k]!)
    stepped(inner, life)
  }
  const underWay = end({ learningRate: learningRate * left, rng: life.rng })
  return underWay === undefined ? ended() : underWay.then(ended)
}

function stepped(inner: Inner, life: Life): void {
  if (life.over) return
  setRounds(inner, life, stepTaken(life.rounds, inner.world.rounds))
  afterMove(inner, life)
}

function afterMove(inner: Inner, life: Life): void {
  const { waitedMs, peersKnown } = surroundings(inner, life)
  setRounds(inner, life, waited(life.rounds, { waitedMs, peersKnown }, inner.world.rounds))
  maybeSave(inner, life)
  move(inner, life)
}

/** Saves when enough exchanges have been made since the last time. */
function maybeSave(inner: Inner, life: Life): void {
  const { checkpointEvery } = inner.world.scenario.peer
  if (checkpointEvery === 0) return
  if (Math.abs(life.rounds.exchanges - inner.savedExchanges) >= checkpointEvery) save(inner, life)
}

function save(inner: Inner, life: Life): void {
  const { world, disk, parameters, applied, moved } = inner
  if (!isMortal(world.scenario)) return
  inner.savedExchanges = life.rounds.exchanges
  disk.save({
    parameters: parameters.slice(),
    journal: life.exchanger.state().journal,
    rounds: life.rounds,
    moved: moved?.slice(),
    learner: life.learner.state(),
    exchanges: applied.length,
    savedAtMs: nowOf(inner)
  })
}

/** One attempt with a partner the partner choice names. `training`: local steps go on meanwhile. */
function tryExchange(
  inner: Inner,
  life: Life,
  { training, doubtsOnly }: { readonly training: boolean; readonly doubtsOnly: boolean }
): void {
  const ended = (result: AttemptResult | 'nobody') => {
    life.attempting = false
    if (training || life.over) return
    if (result === 'committed') afterMove(inner, life)
    else later(inner, life, IDLE_MS)
  }
  if (life.exchanger.state().active !== undefined) return ended('busy')
  if (!doubtsOnly && catchesUp(inner, life, ended)) return
  const partner = nextPartner(inner, life, doubtsOnly)
  if (partner === undefined) return ended('nobody')
  life.attempting = true
  const attempted = (result: AttemptResult) => {
    if (result !== 'committed')
      life.partners = noteAttempt(life.partners, { peer: partner, result }, { nowMs: nowOf(inner), rng: life.rng })
    ended(result)
  }
  // Whoever went by that name does no more.
  if (inner.world.names[indexOf(partner)] !== partner) return attempted('failed')
  life.exchanger.attempt(indexOf(partner), (result) => {
    inner.world.observer.count(`attempt ${result}`)
    attempted(result)
  })
}

/** In the place of an exchange, as in the daemon; false where there is no reason to. */
function catchesUp(inner: Inner, life: Life, ended: (result: 'nobody') => void): boolean {
  const reason = life.catchUp?.due(life)
  if (reason === undefined) return false
  life.attempting = true
  life.catchUp?.run(life, reason, (outcome) => {
    // What it did is in no exchange log: without a checkpoint a crash would lose it.
    if (outcome === 'moved') save(inner, life)
    ended('nobody')
  })
  return true
}

function nextPartner(inner: Inner, life: Life, doubtsOnly: boolean): string | undefined {
  const { world, index } = inner
  const doubts = inDoubt(life).map(({ peer }) => peer)
  const { phase } = life.rounds
  const candidates = doubtsOnly
    ? []
    : world
        .neighbours(index)
        .filter((peer) => suits(phase, phaseAt(inner, life, peer)))
        .map((peer) => world.names[peer]!)
  const onOverlay = world.scenario.mixing.step === 'metropolis'
  const question = {
    candidates,
    ...(onOverlay ? { neighbours: candidates } : {}),
    inDoubt: doubts,
    nowMs: nowOf(inner),
    rng: life.rng
  }
  const [partners, partner] = choosePartner(life.partners, question)
  life.partners = partners
  return partner
}
