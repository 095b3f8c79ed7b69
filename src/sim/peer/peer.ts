import { seededRng } from '../../base/rng.js'
import { type ReplayedExchange, replayLog } from '../../consensus/exchange/exchange-log.js'
import type { Journal } from '../../consensus/exchange/journal.js'
import { initialPartnerState, noteAttempt } from '../../consensus/partners/partner.js'
import { emptyPeerTable, noteExchange } from '../../consensus/partners/peers.js'
import { exchangeMade, type RoundsState } from '../../consensus/rounds.js'
import { addInto, norm2 } from '../../tensor/linear.js'
import { attackOf, createTamper } from '../attack/attackers.js'
import { BEGINNING, createDisk } from '../world/disk.js'
import { createSimCatchUp } from './catch-up.js'
import { drawn } from '../world/draws.js'
import { aliasOf, createExchanger, type Exchanger, indexOf } from './exchanger.js'
import { isMortal } from './churn.js'
import { announce, heard } from './announcements.js'
import { move } from './moves.js'
import { createStates, type States } from './states.js'
import type { NetworkEnd, PeerIndex } from '../world/network.js'
import {
  crash,
  type Inner,
  insightOf,
  type Life,
  noteMoved,
  nowOf,
  setRounds,
  type SimPeer,
  type World
} from './peer-state.js'

export function createPeer(world: World, index: PeerIndex, parameters: Float32Array): SimPeer {
  const { scenario, clock, workload } = world
  const rng = seededRng(scenario.seed, 'peer', index)
  const { stepMs, clockSkew, syncMs, exchangeLog } = scenario.peer
  const attack = attackOf(scenario, index)
  const skew = clockSkew * (2 * rng.uniform() - 1)
  const inner: Inner = {
    world,
    index,
    weight: workload.weights[index]!,
    parameters,
    tamper:
      attack === undefined ? undefined : createTamper({ attack, scenario, peer: index, insight: insightOf(world) }),
    disk: createDisk({ clock, syncMs, keeps: isMortal(scenario), logs: exchangeLog, beginning: BEGINNING }),
    stepMs: drawn(rng, stepMs),
    offsetMs: 60_000 * (1 + skew),
    speed: 1 + skew,
    applied: [],
    moved: undefined,
    hostile: { exchanges: 0, largest: 0 },
    renamed: 0,
    lives: 0,
    finishing: false,
    life: undefined,
    waitingSinceMs: 0,
    savedExchanges: 0
  }
  return {
    index,
    honest: attack === undefined,
    weight: inner.weight,
    parameters,
    start: () => restart(inner),
    crash: () =>
      crash(inner, ({ exchanger, states }) => {
        exchanger.stop()
        states.stop()
      }),
    restart: () => restart(inner),
    running: () => inner.life !== undefined,
    finish() {
      inner.finishing = true
    },
    rounds: () => inner.life?.rounds ?? inner.disk.read().checkpoint.rounds,
    exchange: () => inner.life?.exchanger.state(),
    moved: () => inner.moved,
    hostile: () => inner.hostile
  }
}

/** The first start, too: a disk with nothing on it gives the beginning. */
function restart(inner: Inner): void {
  const { world, index, disk, parameters } = inner
  const { scenario, workload, observer, clock } = world
  const { checkpoint, entries } = disk.read()
  const [journal, replayed] = replayLog(checkpoint.journal, entries)
  if (checkpoint.parameters === undefined) workload.begin(index, parameters)
  else parameters.set(checkpoint.parameters)
  inner.moved = checkpoint.moved?.slice()
  for (const half of inner.applied.splice(checkpoint.exchanges)) if (half.counted) observer.ledger.rolledBack(half)
  let rounds = startingRounds(checkpoint.rounds, world)
  const life: Life = {
    exchanger: createExchangerOf(inner, journal),
    states: createStatesOf(inner),
    // Where peers only mix, everybody's start is part of the answer.
    catchUp: scenario.peer.catchUp && workload.trains ? createSimCatchUp(inner, checkpoint.savedAtMs) : undefined,
    learner: workload.learner(index, parameters, checkpoint.learner),
    rng: seededRng(scenario.seed, 'life', index, inner.lives),
    rounds,
    partners: initialPartnerState,
    table: emptyPeerTable,
    sequence: 0,
    attempting: false,
    over: false
  }
  for (const exchange of replayed) {
    if (inner.tamper?.applies !== false) addInto(exchange.increment, parameters)
    rounds = exchangeMade(rounds, exchange.partnerPhase, world.rounds)
    keepBooks(inner, exchange)
  }
  life.rounds = rounds
  inner.life = life
  inner.lives++
  inner.waitingSinceMs = clock.now()
  observer.note(index, `start ${inner.lives} ${entries.length}`)
  world.network.attach(index, endOf(inner, life))
  // Peers do not wake at the same moment.
  clock.after(life.rng.uniform() * inner.stepMs, () => move(inner, life))
  if (scenario.peer.announceMs > 0) announce(inner, life)
}

/** Peers that only mix have nothing to train: they are in the middle of it for ever. */
const startingRounds = (saved: RoundsState, { scenario }: World): RoundsState =>
  scenario.mixing.totalSteps === 0 ? { ...saved, phase: 'training' } : saved

function createExchangerOf(inner: Inner, journal: Journal): Exchanger {
  const { world, index, weight, parameters, disk, tamper, lives } = inner
  const { clock, network, observer, scenario } = world
  return createExchanger({
    peer: index,
    names: world.names,
    config: { ...world.config, weight: tamper?.weight ?? weight, incarnation: `${scenario.seed} ${index} ${lives}` },
    clock,
    network,
    disk,
    observer,
    frameTimeoutMs: scenario.network.frameTimeoutMs,
    parameters,
    phase: () => inner.life?.rounds.phase ?? 'training',
    place: () => ({
      step: inner.life?.rounds.step ?? 0,
      ...(scenario.mixing.step === 'metropolis' ? { degree: world.neighbours(index).length } : {})
    }),
    journal,
    tamper,
    onApplied: (exchange) => {
      const life = inner.life
      if (life === undefined) return
      const { peer, partnerPhase } = exchange
      life.catchUp?.exchanged(life)
      life.partners = noteAttempt(life.partners, { peer, result: 'committed' }, { nowMs: nowOf(inner), rng: life.rng })
      const moment = { nowMs: nowOf(inner), step: life.rounds.step }
      life.table = noteExchange(life.table, { peer, phase: partnerPhase }, moment)
      setRounds(inner, life, exchangeMade(life.rounds, partnerPhase, world.rounds))
      keepBooks(inner, exchange)
    }
  })
}

function createStatesOf(inner: Inner): States {
  const { world, index, weight, parameters, tamper, lives } = inner
  const { clock, network, observer, scenario, names } = world
  return createStates({
    peer: index,
    names,
    clock,
    network,
    observer,
    config: { ...world.config, weight: tamper?.weight ?? weight, incarnation: `${scenario.seed} ${index} ${lives}` },
    timeoutMs: scenario.network.frameTimeoutMs,
    parameters,
    place: () => ({ phase: inner.life?.rounds.phase ?? 'training', step: inner.life?.rounds.step ?? 0 }),
    tamper
  })
}

/** The ledger is of honest peers: what an attacker does with its half is its own affair. */
function keepBooks(inner: Inner, { exchangeId, role, increment, peer }: Omit<ReplayedExchange, 'partnerPhase'>): void {
  const { world, index, weight, tamper, applied, hostile, parameters } = inner
  const counted = tamper === undefined && world.peerAt(indexOf(peer)).honest
  applied.push({ exchangeId, role, counted })
  world.observer.count('applied')
  if (counted) world.observer.ledger.applied({ peer: index, exchangeId, role, increment, weight })
  else if (tamper === undefined) {
    noteMoved(inner, (k) => increment[k]!)
    hostile.exchanges++
    hostile.largest = Math.max(hostile.largest, norm2(parameters))
  } else if (tamper.renames) world.names[index] = aliasOf(index, ++inner.renamed)
}

function endOf(inner: Inner, life: Life): NetworkEnd {
  const { exchanger, states } = life
  return {
    opened: (link, from, protocol) => (protocol === 'state' ? states : exchanger).opened(link, from),
    received(link, frame) {
      if (!states.received(link, frame)) exchanger.received(link, frame)
    },
    ended(link) {
      states.ended(link)
      exchanger.ended(link)
    },
    announced: (from, bytes) => heard(inner, life, { from, bytes })
  }
}
