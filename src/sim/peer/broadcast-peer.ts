import { describeError, PeertuneError } from '../../base/errors.js'
import { type Rng, seededRng } from '../../base/rng.js'
import { compactSurplus } from '../../consensus/broadcast/compaction.js'
import { ownUpdates, restarted, type Untold } from '../../consensus/broadcast/restart.js'
import type { Broadcaster } from '../../consensus/broadcast/broadcaster.js'
import { type ClaimedShare, claimedShare } from '../../consensus/claimed-share.js'
import { initialRounds, type RoundsState } from '../../consensus/rounds.js'
import { attackOf } from '../attack/attackers.js'
import { subtract } from '../../tensor/linear.js'
import { type BroadcastTamper, createBroadcastTamper } from '../attack/broadcast-attackers.js'
import { simSign } from '../world/broadcast-signature.js'
import { createTalk, type Talk } from './broadcast-talk.js'
import { createSimBroadcastLog, type SimBroadcastLog } from './broadcast-log.js'
import { createDisk, type Logged, type SimDisk } from '../world/disk.js'
import { drawn } from '../world/draws.js'
import { isMortal, joinsAt } from './churn.js'
import { nameOf } from './exchanger.js'
import type { PeerIndex } from '../world/network.js'
import { type BroadcastWorld, crash, insightOf, type SimPeer, type World } from './peer-state.js'
import type { Learner, LearnerState } from '../world/workload-types.js'

type BroadcastingWorld = World & { readonly broadcast: BroadcastWorld }

/** All of one tick, as the daemon's checkpoint. */
interface Checkpoint extends Logged {
  readonly untold: Untold
  readonly step: number
  readonly learner: LearnerState | undefined
}

/** From start or restart to crash. */
interface Life {
  readonly broadcaster: Broadcaster
  readonly talk: Talk
  readonly learner: Learner
  readonly rng: Rng
  step: number
  published: number
  over: boolean
}

interface Inner {
  readonly world: BroadcastingWorld
  readonly index: PeerIndex
  readonly weight: number
  readonly parameters: Float32Array
  readonly tamper: BroadcastTamper | undefined
  readonly disk: SimDisk<never, Checkpoint>
  readonly log: SimBroadcastLog
  readonly stepMs: number
  lives: number
  finishing: boolean
  life: Life | undefined
}

/** A participant that broadcasts: the daemon's loop, driver and checkpoint around the same machine. */
export function createBroadcastPeer(world: World, index: PeerIndex, parameters: Float32Array): SimPeer {
  const { scenario, clock, workload } = world
  if (!isBroadcasting(world)) throw new PeertuneError('sim/no-broadcast', 'this world does not broadcast')
  const { stepMs, syncMs, exchangeLog } = scenario.peer
  const attack = attackOf(scenario, index)
  const writing = { clock, syncMs, keeps: isMortal(scenario) }
  const inner: Inner = {
    world,
    index,
    weight: workload.weights[index]!,
    parameters,
    tamper:
      attack === undefined
        ? undefined
        : createBroadcastTamper({ attack, scenario, peer: index, insight: insightOf(world) }),
    disk: createDisk<never, Checkpoint>({ ...writing, logs: false, beginning: beginningOf(world, parameters) }),
    log: createSimBroadcastLog({ ...writing, logs: exchangeLog }),
    stepMs: drawn(seededRng(scenario.seed, 'peer', index), stepMs),
    lives: 0,
    finishing: false,
    life: undefined
  }
  return {
    index,
    honest: attack === undefined,
    weight: inner.weight,
    parameters,
    start: () => restart(inner),
    crash: () =>
      crash(inner, ({ talk, rng }) => {
        talk.stop()
        inner.log.crash(rng)
      }),
    restart: () => restart(inner),
    running: () => inner.life !== undefined,
    finish() {
      inner.finishing = true
      inner.life?.broadcaster.onReplica()
    },
    rounds: () => roundsOf(inner),
    exchange: () => undefined,
    moved: () => undefined,
    hostile: () => ({ exchanges: 0, largest: 0 }),
    broadcaster: () => inner.life?.broadcaster
  }
}

/** Where a peer begins is what it has learned and not told so far. */
function beginningOf({ workload: { reference } }: World, parameters: Float32Array): Checkpoint {
  const residual = new Float32Array(reference.length)
  const untold = { progress: subtract(parameters, reference), residual, ownUpdates: 0 }
  return { untold, step: 0, learner: undefined, logged: 0 }
}

const isBroadcasting = (world: World): world is BroadcastingWorld => world.broadcast !== undefined

function roundsOf({ life, disk }: Inner): RoundsState {
  return { ...initialRounds, step: life?.step ?? disk.read().checkpoint.step }
}

/** The first start, too: a disk with nothing on it gives the beginning. */
function restart(inner: Inner): void {
  const { world, index, disk, log, parameters, tamper } = inner
  const { scenario, workload, observer, clock, network } = world
  const { checkpoint } = disk.read()
  const record = log.read()
  const rng = seededRng(scenario.seed, 'life', index, inner.lives)
  const self = nameOf(index)
  const config = { ...world.broadcast.config, self }
  const { decay, resumeAt } = scenario.broadcast
  const sign = (body: Uint8Array) => simSign(self, body)
  const parts = { config, reference: workload.reference, live: parameters, decay, resumeAt, sign, rng }
  const broadcaster = restarted(parts, record, checkpoint.untold)
  if (inner.finishing) broadcaster.onReplica()
  const life: Life = {
    broadcaster,
    talk: createTalk({ world, peer: index, config, broadcaster, log, rng, tamper }),
    learner: workload.learner(index, parameters, checkpoint.learner),
    rng,
    step: checkpoint.step,
    published: 0,
    over: false
  }
  inner.life = life
  inner.lives++
  observer.note(index, `start ${inner.lives} ${record.entries.length}`)
  network.attach(index, life.talk.end)
  // Peers do not wake at the same moment.
  clock.after(rng.uniform() * inner.stepMs, () => move(inner, life))
  clock.after(rng.uniform() * scenario.broadcast.syncMs, () => synchronise(inner, life))
}

function synchronise(inner: Inner, life: Life): void {
  const { clock, scenario } = inner.world
  if (life.over) return
  life.talk.synchronise()
  clock.after(scenario.broadcast.syncMs * (0.5 + life.rng.uniform()), () => synchronise(inner, life))
}

/** One local step; every `localSteps` of them what was learned is told. */
function move(inner: Inner, life: Life): void {
  const { world, stepMs } = inner
  const { totalSteps } = world.scenario.mixing
  if (life.over || inner.finishing || (totalSteps > 0 && life.step >= totalSteps)) return
  const end = life.learner.begin()
  world.clock.after(stepMs, () => localStep(inner, life, end))
}

function localStep(inner: Inner, life: Life, end: ReturnType<Learner['begin']>): void | Promise<void> {
  const { world } = inner
  if (life.over || inner.finishing) return
  if (!world.workload.trains) return stepped(inner, life)
  const { totalSteps } = world.scenario.mixing
  const left = totalSteps === 0 ? 1 : Math.max(0, 1 - life.step / totalSteps)
  const underWay = end({ learningRate: world.scenario.workload.learningRate * left, rng: life.rng })
  if (underWay === undefined) return stepped(inner, life)
  return underWay.then(() => stepped(inner, life))
}

function stepped(inner: Inner, life: Life): void {
  life.step++
  const { localSteps, totalSteps, settleExchanges } = inner.world.scenario.mixing
  if (life.step % localSteps === 0 || life.step === totalSteps) publish(inner, life)
  // As in the daemon: in the end, what updates have left out.
  if (life.step === totalSteps) for (let n = 0; n < settleExchanges; n++) publish(inner, life)
  move(inner, life)
}

function publish(inner: Inner, life: Life): void {
  const { world, index, parameters, tamper } = inner
  const { broadcaster, talk } = life
  tamper?.learned(parameters, broadcaster.replica)
  const { claims } = world.broadcast
  const others = claims.filter((_, peer) => peer !== index)
  const share = tamper?.samples === undefined ? claimedShare(claims[index]!, others) : all(tamper.samples)
  try {
    talk.perform(broadcaster.publish(share))
  } catch (error) {
    // The daemon would stop here.
    if (tamper === undefined) world.observer.violated('node-failed', `peer ${index}: ${describeError(error)}`)
    return
  }
  life.published++
  const { checkpointEvery } = world.scenario.peer
  if (life.published % Math.max(1, checkpointEvery) !== 0) return
  if (checkpointEvery > 0) save(inner, life)
  compact(inner, life)
}

/** Of a liar: all there are. */
const all = (samples: number): ClaimedShare => ({ samples, totalSamples: samples })

function save({ disk, parameters, index }: Inner, { broadcaster, learner, step }: Life): void {
  const untold = {
    progress: subtract(parameters, broadcaster.replica),
    residual: broadcaster.saved().residual,
    ownUpdates: ownUpdates(broadcaster, nameOf(index))
  }
  disk.save({ untold, step, learner: learner.state() })
}

/** After every checkpoint is a good time to compact old updates. */
function compact({ world, index, log }: Inner, { broadcaster, talk }: Life): void {
  const { maxHeldBytes } = world.scenario.broadcast
  const begun = (peer: PeerIndex): boolean => joinsAt(world.scenario, peer) <= world.clock.now()
  const self = nameOf(index)
  const known = [...world.neighbours(index).filter(begun).map(nameOf), ...broadcaster.state().authors.keys()]
  const counted = [...new Set(known)].filter((peer) => peer !== self)
  if (!compactSurplus(broadcaster, { ...talk.others(), counted, around: counted, self, maxHeldBytes })) return
  world.observer.note(index, 'compacts')
  world.observer.count('compaction')
  log.rebase(broadcaster)
}
