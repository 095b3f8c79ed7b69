import { type Rng, seededRng } from '../base/rng.js'
import { decodeAnnouncement, encodeAnnouncement } from '../codec/wire.js'
import { nextSequence } from '../consensus/announcement.js'
import { replayLog } from '../consensus/exchange-log.js'
import type { ExchangeConfig, ExchangeState } from '../consensus/exchange-types.js'
import type { ExchangeRole } from '../consensus/journal.js'
import {
  type AttemptResult,
  choosePartner,
  initialPartnerState,
  noteAttempt,
  type PartnerState
} from '../consensus/partner.js'
import { emptyPeerTable, hear, judge, noteExchange, type PeerTable, phaseOf, present } from '../consensus/peers.js'
import {
  exchangeMade,
  nextMove,
  type RoundsConfig,
  type RoundsState,
  stepTaken,
  type Surroundings,
  suits,
  waited
} from '../consensus/rounds.js'
import { addInto } from '../tensor/linear.js'
import { attackOf, createTamper, type Tamper } from './attackers.js'
import { createDisk, type SimDisk } from './disk.js'
import { drawn } from './draws.js'
import { createExchanger, type Exchanger, indexOf, nameOf } from './exchanger.js'
import type { NetworkEnd, PeerIndex, SimNetwork } from './network.js'
import type { Observer } from './observer.js'
import type { Scenario } from './scenario.js'
import type { VirtualClock } from './virtual-clock.js'
import type { Workload } from './workload-types.js'

/** Milliseconds until a peer with nothing to do looks again, as in the daemon's loop. */
const IDLE_MS = 60

/** What all peers of a simulation have in common. */
export interface World {
  readonly scenario: Scenario
  readonly clock: VirtualClock
  readonly network: SimNetwork
  readonly workload: Workload
  /** By position: asked for at every exchange of every peer. */
  readonly names: readonly string[]
  readonly observer: Observer
  readonly config: Omit<ExchangeConfig, 'self' | 'weight' | 'incarnation'>
  readonly rounds: RoundsConfig
  /** Positions of the peers that `peer` knows. */
  readonly neighbours: (peer: PeerIndex) => readonly PeerIndex[]
  readonly peerAt: (peer: PeerIndex) => SimPeer
}

/** One participant: the daemon's loop, driver and checkpoint around the same machines. */
export interface SimPeer {
  readonly index: PeerIndex
  readonly honest: boolean
  readonly weight: number
  /** Live, float32[size], a view into the arena. */
  readonly parameters: Float32Array
  start(): void
  /** Loses everything that is not on its disk. */
  crash(): void
  /** From its disk. */
  restart(): void
  running(): boolean
  /** No more local steps and no new exchanges: only what is in doubt is settled. */
  finish(): void
  rounds(): RoundsState
  exchange(): ExchangeState | undefined
  /** What local steps alone have added since the beginning, float64[size]; kept where the workload trains. */
  trained(): Float64Array | undefined
}

/** From start or restart to crash. */
interface Life {
  readonly exchanger: Exchanger
  readonly rng: Rng
  rounds: RoundsState
  partners: PartnerState
  table: PeerTable
  sequence: number
  attempting: boolean
  over: boolean
}

interface Inner {
  readonly world: World
  readonly index: PeerIndex
  readonly weight: number
  readonly parameters: Float32Array
  readonly tamper: Tamper | undefined
  readonly disk: SimDisk
  readonly stepMs: number
  /** Our clock against the true one: offset and speed. */
  readonly offsetMs: number
  readonly speed: number
  /** Exchanges in the parameters, in order; the ledger's view of this peer. */
  readonly applied: { exchangeId: string; role: ExchangeRole }[]
  trained: Float64Array | undefined
  /** Lives begun. */
  lives: number
  finishing: boolean
  life: Life | undefined
  /** When the present phase began, or an exchange last counted in it. */
  waitingSinceMs: number
  savedExchanges: number
}

export function createPeer(world: World, index: PeerIndex, parameters: Float32Array): SimPeer {
  const { scenario, clock, workload } = world
  const rng = seededRng(scenario.seed, 'peer', index)
  const { stepMs, clockSkew, crashesPerMinute, syncMs, exchangeLog } = scenario.peer
  const attack = attackOf(scenario, index)
  const skew = clockSkew * (2 * rng.uniform() - 1)
  const inner: Inner = {
    world,
    index,
    weight: workload.weights[index]!,
    parameters,
    tamper: attack === undefined ? undefined : createTamper(attack, scenario, workload.reference, index),
    disk: createDisk({ clock, syncMs, keeps: crashesPerMinute > 0, logs: exchangeLog }),
    stepMs: drawn(rng, stepMs),
    offsetMs: 60_000 * (1 + skew),
    speed: 1 + skew,
    applied: [],
    trained: undefined,
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
    crash: () => crash(inner),
    restart: () => restart(inner),
    running: () => inner.life !== undefined,
    finish() {
      inner.finishing = true
    },
    rounds: () => inner.life?.rounds ?? inner.disk.read().checkpoint.rounds,
    exchange: () => inner.life?.exchanger.state(),
    trained: () => inner.trained
  }
}

const nowOf = ({ world, offsetMs, speed }: Inner): number => offsetMs + speed * world.clock.now()

function crash(inner: Inner): void {
  const { world, index, life, disk } = inner
  if (life === undefined) return
  world.observer.note(index, 'crash')
  world.observer.count('crash')
  life.over = true
  life.exchanger.stop()
  inner.life = undefined
  world.network.detach(index)
  disk.crash(life.rng)
}

/** The first start, too: a disk with nothing on it gives the beginning. */
function restart(inner: Inner): void {
  const { world, index, disk, parameters } = inner
  const { scenario, workload, observer, clock } = world
  const { checkpoint, entries } = disk.read()
  const [journal, replayed] = replayLog(checkpoint.journal, entries)
  if (checkpoint.parameters === undefined) workload.begin(index, parameters)
  else parameters.set(checkpoint.parameters)
  if (workload.trains) inner.trained = checkpoint.trained?.slice() ?? new Float64Array(parameters.length)
  for (const half of inner.applied.splice(checkpoint.exchanges)) observer.ledger.rolledBack(half)
  let rounds = startingRounds(checkpoint.rounds, world)
  const life: Life = {
    exchanger: createExchangerOf(inner, journal),
    rng: seededRng(scenario.seed, 'life', index, inner.lives),
    rounds,
    partners: initialPartnerState,
    table: emptyPeerTable,
    sequence: 0,
    attempting: false,
    over: false
  }
  for (const { increment, exchangeId, role, partnerPhase } of replayed) {
    if (inner.tamper?.applies !== false) addInto(increment, parameters)
    rounds = exchangeMade(rounds, partnerPhase, world.rounds)
    keepBooks(inner, exchangeId, role, increment, replayed.find((one) => one.exchangeId === exchangeId)!.peer)
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

function createExchangerOf(inner: Inner, journal: Parameters<typeof createExchanger>[0]['journal']): Exchanger {
  const { world, index, weight, parameters, disk, tamper, lives } = inner
  const { clock, network, observer, scenario } = world
  return createExchanger({
    peer: index,
    config: { ...world.config, self: nameOf(index), weight, incarnation: `${scenario.seed} ${index} ${lives}` },
    clock,
    network,
    disk,
    observer,
    frameTimeoutMs: scenario.network.frameTimeoutMs,
    parameters,
    phase: () => inner.life?.rounds.phase ?? 'training',
    journal,
    tamper,
    onApplied: ({ peer, partnerPhase, exchangeId, role, increment }) => {
      const life = inner.life
      if (life === undefined) return
      life.partners = noteAttempt(life.partners, peer, 'committed', { nowMs: nowOf(inner), rng: life.rng })
      life.table = noteExchange(life.table, peer, partnerPhase, { nowMs: nowOf(inner), step: life.rounds.step })
      setRounds(inner, life, exchangeMade(life.rounds, partnerPhase, world.rounds))
      keepBooks(inner, exchangeId, role, increment, peer)
    }
  })
}

function keepBooks(inner: Inner, exchangeId: string, role: ExchangeRole, increment: Float32Array, peer: string): void {
  const { world, index, weight, tamper, applied } = inner
  applied.push({ exchangeId, role })
  world.observer.count('applied')
  if (tamper === undefined && world.peerAt(indexOf(peer)).honest)
    world.observer.ledger.applied({ peer: index, exchangeId, role, increment, weight })
}

function setRounds(inner: Inner, life: Life, next: RoundsState): void {
  if (next.phase !== life.rounds.phase || next.settled !== life.rounds.settled)
    inner.waitingSinceMs = inner.world.clock.now()
  life.rounds = next
}

function endOf(inner: Inner, life: Life): NetworkEnd {
  const { exchanger } = life
  return {
    opened: exchanger.opened,
    received: exchanger.received,
    ended: exchanger.ended,
    announced: (from, bytes) => heard(inner, life, from, bytes)
  }
}

function heard(inner: Inner, life: Life, from: PeerIndex, bytes: Uint8Array): void {
  const read = decodeAnnouncement(bytes)
  if (!read.ok) return
  const moment = { nowMs: nowOf(inner), step: life.rounds.step }
  const { federation } = inner.world.config
  const verdict = judge(life.table, nameOf(from), read.value, { federation, nowMs: moment.nowMs })
  if (verdict.verdict === 'accept') life.table = hear(life.table, nameOf(from), read.value, moment)
  else inner.world.observer.count(`verdict ${verdict.code}`)
}

function announce(inner: Inner, life: Life): void {
  const { world, index, weight } = inner
  if (life.over) return
  life.sequence = nextSequence(life.sequence, nowOf(inner))
  const { step, phase, exchanges } = life.rounds
  const bytes = encodeAnnouncement({
    federation: world.config.federation,
    sequence: life.sequence,
    step,
    phase,
    exchanges,
    samples: weight,
    bytesSent: 0,
    bytesReceived: 0,
    software: 'peertune/simulated'
  })
  for (const peer of world.neighbours(index)) world.network.announce(index, peer, bytes)
  world.clock.after(world.scenario.peer.announceMs, () => announce(inner, life))
}

function surroundings(inner: Inner, life: Life): Surroundings {
  const { world, index, waitingSinceMs } = inner
  const known = world.neighbours(index)
  const waitedMs = world.clock.now() - waitingSinceMs
  const training = (peer: PeerIndex) => (phaseAt(inner, life, peer) ?? 'training') === 'training'
  // Only a peer that settles asks; a look at everybody for every step would cost more than the step.
  const othersTraining = life.rounds.phase !== 'training' && others(inner, life, known).some(training)
  return { peersKnown: known.length > 0, othersTraining, waitedMs, inDoubt: inDoubt(life).length > 0 }
}

/** Peers present: all we know, or those heard of lately. */
function others(inner: Inner, life: Life, known: readonly PeerIndex[]): readonly PeerIndex[] {
  if (inner.world.scenario.peer.announceMs === 0) return known
  return present(life.table, nowOf(inner)).map(indexOf)
}

function phaseAt(inner: Inner, life: Life, peer: PeerIndex) {
  const { world } = inner
  return world.scenario.peer.announceMs === 0 ? world.peerAt(peer).rounds().phase : phaseOf(life.table, nameOf(peer))
}

const inDoubt = (life: Life) => life.exchanger.state().journal.inDoubt

/** What the daemon's loop does, one move at a time. */
function move(inner: Inner, life: Life): void {
  const { world } = inner
  if (life.over) return
  const { train, exchange, resolve } = inner.finishing
    ? { train: false, exchange: false, resolve: inDoubt(life).length > 0 }
    : nextMove(life.rounds, surroundings(inner, life), world.rounds)
  if ((exchange || resolve) && !life.attempting) tryExchange(inner, life, { training: train, doubtsOnly: !exchange })
  else if (!train) return later(inner, life, IDLE_MS)
  if (train) world.clock.after(inner.stepMs, () => localStep(inner, life))
}

function later(inner: Inner, life: Life, delayMs: number): void {
  inner.world.clock.after(delayMs, () => move(inner, life))
}

function localStep(inner: Inner, life: Life): void {
  const { world, index, parameters } = inner
  if (life.over) return
  // An end that came during the step leaves it out: nothing trains any more.
  if (!inner.finishing && world.workload.trains) {
    const before = Float64Array.from(parameters)
    const { learningRate } = world.scenario.workload
    const { totalSteps } = world.scenario.mixing
    const left = totalSteps === 0 ? 1 : Math.max(0, 1 - life.rounds.step / totalSteps)
    world.workload.step(index, parameters, { learningRate: learningRate * left, rng: life.rng })
    inner.trained?.forEach((value, k, all) => {
      all[k] = value + parameters[k]! - before[k]!
    })
  }
  setRounds(inner, life, stepTaken(life.rounds, world.rounds))
  afterMove(inner, life)
}

function afterMove(inner: Inner, life: Life): void {
  const { waitedMs, peersKnown } = surroundings(inner, life)
  setRounds(inner, life, waited(life.rounds, { waitedMs, peersKnown }, inner.world.rounds))
  save(inner, life)
  move(inner, life)
}

/** Saves when enough exchanges have been made since the last time. */
function save(inner: Inner, life: Life): void {
  const { world, disk, parameters, applied, trained } = inner
  const { checkpointEvery, crashesPerMinute } = world.scenario.peer
  if (checkpointEvery === 0 || crashesPerMinute === 0) return
  if (Math.abs(life.rounds.exchanges - inner.savedExchanges) < checkpointEvery) return
  inner.savedExchanges = life.rounds.exchanges
  disk.save({
    parameters: parameters.slice(),
    journal: life.exchanger.state().journal,
    rounds: life.rounds,
    trained: trained?.slice(),
    exchanges: applied.length
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
  const partner = nextPartner(inner, life, doubtsOnly)
  if (partner === undefined) return ended('nobody')
  life.attempting = true
  life.exchanger.attempt(indexOf(partner), (result) => {
    inner.world.observer.count(`attempt ${result}`)
    if (result !== 'committed')
      life.partners = noteAttempt(life.partners, partner, result, { nowMs: nowOf(inner), rng: life.rng })
    ended(result)
  })
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
  const question = { candidates, inDoubt: doubts, nowMs: nowOf(inner), rng: life.rng }
  const [partners, partner] = choosePartner(life.partners, question)
  life.partners = partners
  return partner
}
