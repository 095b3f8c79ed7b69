import type { Rng } from '../../base/rng.js'
import type { Broadcaster } from '../../consensus/broadcast/broadcaster.js'
import type { BroadcastConfig } from '../../consensus/broadcast/types.js'
import type { CatchUpReason } from '../../consensus/catch-up/catch-up.js'
import type { ExchangeConfig, ExchangeState } from '../../consensus/exchange/types.js'
import type { ExchangeRole, InDoubt } from '../../consensus/exchange/journal.js'
import type { PartnerState } from '../../consensus/partners/partner.js'
import type { PeerTable } from '../../consensus/partners/peers.js'
import type { RoundsConfig, RoundsState } from '../../consensus/rounds.js'
import type { Tamper } from '../attack/attackers.js'
import type { BroadcastLedger } from '../world/broadcast-ledger.js'
import type { SimDisk } from '../world/disk.js'
import type { Exchanger } from './exchanger.js'
import type { Insight } from '../attack/omniscient-attacks.js'
import type { PeerIndex, SimNetwork } from '../world/network.js'
import type { Observer } from '../world/observer.js'
import type { Scenario } from '../world/scenario.js'
import type { States } from './states.js'
import type { VirtualClock } from '../world/virtual-clock.js'
import type { Learner, Workload } from '../world/workload-types.js'

/** What peers that mix by broadcast have in common besides. */
export interface BroadcastWorld {
  readonly config: Omit<BroadcastConfig, 'self'>
  readonly ledger: BroadcastLedger
  /** Training examples that each peer says it has. */
  readonly claims: readonly number[]
}

/** What all peers of a simulation have in common. */
export interface World {
  readonly scenario: Scenario
  readonly clock: VirtualClock
  readonly network: SimNetwork
  readonly workload: Workload
  /** By position, what a peer goes by now: asked for at every exchange of every peer. */
  readonly names: string[]
  readonly observer: Observer
  readonly config: Omit<ExchangeConfig, 'self' | 'weight' | 'incarnation'>
  /** Where peers mix by broadcast. */
  readonly broadcast?: BroadcastWorld
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
  /** What anything but exchanges with honest peers has added since the beginning, float64[size]; absent for nothing. */
  moved(): Float64Array | undefined
  /** Exchanges with liars, and the most that ||x|| has been after one. */
  hostile(): { readonly exchanges: number; readonly largest: number }
  /** What the peer has heard and counted, where peers mix by broadcast. */
  broadcaster?(): Broadcaster | undefined
}

/** The daemon's catch-up: brings a peer that has fallen behind to where the others are. */
export interface SimCatchUp {
  /** Why it is time to look, if it is. */
  due(life: Life): CatchUpReason | undefined
  /** An exchange has been made and is noted nowhere yet. */
  exchanged(life: Life): void
  /** Looks, and moves where we are behind; calls back once, unless the peer crashes. */
  run(life: Life, reason: CatchUpReason, done: (outcome: 'moved' | 'stayed') => void): void
}

/** From start or restart to crash. */
export interface Life {
  readonly exchanger: Exchanger
  readonly states: States
  /** Absent where nobody catches up. */
  readonly catchUp: SimCatchUp | undefined
  readonly learner: Learner
  readonly rng: Rng
  rounds: RoundsState
  partners: PartnerState
  table: PeerTable
  sequence: number
  attempting: boolean
  over: boolean
}

export interface Inner {
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
  readonly applied: { readonly exchangeId: string; readonly role: ExchangeRole; readonly counted: boolean }[]
  /** As `SimPeer.moved`, as far as this peer's parameters contain it. */
  moved: Float64Array | undefined
  /** As `SimPeer.hostile`, of all lives. */
  readonly hostile: { exchanges: number; largest: number }
  /** Names gone by before the present one. */
  renamed: number
  /** Lives begun. */
  lives: number
  finishing: boolean
  life: Life | undefined
  /** When the present phase began, or an exchange last counted in it. */
  waitingSinceMs: number
  savedExchanges: number
}

/** What the world's liars know. */
export function insightOf(world: World): Insight {
  const { scenario, workload, peerAt } = world
  const liars = scenario.attackers.reduce((sum, { count }) => sum + count, 0)
  let honest: readonly SimPeer[] | undefined
  return {
    reference: workload.reference,
    schema: workload.schema,
    liars,
    honest() {
      honest ??= Array.from({ length: scenario.peers - liars }, (_, peer) => peerAt(peer))
      return honest.map(({ parameters }) => parameters)
    },
    parametersOf: (peer) => peerAt(peer).parameters
  }
}

/** Adds to what is known to have moved this peer. */
export function noteMoved(inner: Inner, step: (k: number) => number): void {
  inner.moved ??= new Float64Array(inner.parameters.length)
  const { moved } = inner
  for (let k = 0; k < moved.length; k++) moved[k] = moved[k]! + step(k)
}

/** What the peer takes the time for. */
export const nowOf = ({ world, offsetMs, speed }: Inner): number => offsetMs + speed * world.clock.now()

export const inDoubt = (life: Life): readonly InDoubt[] => life.exchanger.state().journal.inDoubt

export function setRounds(inner: Inner, life: Life, next: RoundsState): void {
  if (next.phase !== life.rounds.phase || next.settled !== life.rounds.settled)
    inner.waitingSinceMs = inner.world.clock.now()
  life.rounds = next
}

interface Mortal<OneLife> {
  readonly world: World
  readonly index: PeerIndex
  readonly disk: { crash(rng: Rng): void }
  life: OneLife | undefined
}

/** The end of a life, if there is one: `stop` ends what it has under way, and its disk loses what is not safe. */
export function crash<OneLife extends { readonly rng: Rng; over: boolean }>(
  inner: Mortal<OneLife>,
  stop: (life: OneLife) => void
): void {
  const { world, index, life, disk } = inner
  if (life === undefined) return
  world.observer.note(index, 'crash')
  world.observer.count('crash')
  life.over = true
  stop(life)
  inner.life = undefined
  world.network.detach(index)
  disk.crash(life.rng)
}
