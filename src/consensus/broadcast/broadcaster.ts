import { PeertuneError } from '../../base/errors.js'
import type { Rng } from '../../base/rng.js'
import type { Head, SignedUpdate, Update } from '../../codec/wire/update.js'
import { encodeUpdateBody, readUpdate } from '../../codec/wire/update-frame.js'
import { authorOf, initialBroadcastState, mostUpdateBytes, replayBroadcast, stepBroadcast } from './broadcast.js'
import { adoptHeads, type BroadcastSnapshot, snapshotHeads, unitsAt } from './snapshot.js'
import type { BroadcastConfig, BroadcastEffect, BroadcastEntry, BroadcastEvent, BroadcastState } from './types.js'
import { type Contribution, contributionOf, createReplica, type Replica } from './fixed-point.js'
import { pseudoGradient, type ResumeAt } from './pseudo-gradient.js'
import { axpy } from '../../tensor/linear.js'
import { headHashOf, headOf } from './update-chain.js'

/** Signs bytes as the author `config.self`. */
export type SignBody = (body: Uint8Array) => Uint8Array

/** What a broadcasting peer is on disk. Vectors are float32[size], the snapshot's units float64[size]. */
export interface SavedBroadcast {
  readonly state: BroadcastState
  readonly units: Float64Array
  readonly residual: Float32Array
}

export interface BroadcasterParts {
  readonly config: BroadcastConfig
  /** The common seeded start x0, float32[size]. */
  readonly reference: Float32Array
  /** What local training changes in place, float32[size]: the replica and, on top, what was learned since. */
  readonly live: Float32Array
  /** What is left of a residual from one update to the next. */
  readonly decay: number
  /** Default `replica`. */
  readonly resumeAt?: ResumeAt
  readonly sign: SignBody
  readonly rng: Rng
  /** As it was saved; default: nothing has happened yet. `live` is then the caller's to restore, `onReplica` otherwise. */
  readonly saved?: SavedBroadcast
}

/** How much an update of ours is to count. */
export interface Weighing {
  readonly samples: number
  /** Of all peers that take part now, ours included. */
  readonly totalSamples: number
}

/** Effects that are left to a driver once the replica has followed. */
export type OpenEffect = Exclude<BroadcastEffect, { readonly type: 'count' }>

/**
 * The machine (broadcast.ts) with what it decides about: replica, live parameters and residual. No I/O: updates come in
 * verified, effects go out. The daemon, the simulator and experiments drive the same one.
 */
export interface Broadcaster {
  /** float32[size]: equal to the last bit at all peers that have counted the same. */
  readonly replica: Float32Array
  state(): BroadcastState
  /** Takes an event in; `live` and replica have followed when it returns. */
  dispatch(event: BroadcastEvent): readonly OpenEffect[]
  /**
   * Tells what was learned since the last time: makes, signs and counts the next update of ours. From here on `live` is
   * where training goes on. Throws `consensus/own-chain-stopped` where somebody else has written with our key.
   */
  publish(weighing: Weighing): readonly OpenEffect[]
  /** Entries of the log behind the saved state, before anything else. Own updates among them: the residual is gone. */
  replay(entries: Iterable<BroadcastEntry>): void
  /** Forgets what was learned and not told. */
  onReplica(): void
  /** What the last life had learned and not told, float32[size] each: on top of the replica, and in the next update. */
  restore(untold: { readonly progress: Float32Array; readonly residual: Float32Array }): void
  /** SHA-256 of the replica, in units of the grid. */
  hash(): string
  saved(): SavedBroadcast
  snapshot(): BroadcastSnapshot
  /** The snapshot at other heads than ours, where we can tell. */
  unitsAt(heads: readonly Head[]): Float64Array | undefined
  /** False where something of ours would be lost. */
  adopt(snapshot: BroadcastSnapshot): boolean
}

export function createBroadcaster(parts: BroadcasterParts): Broadcaster {
  const { config, live, saved } = parts
  const replica = createReplica(parts.reference)
  let residual: Float32Array = saved?.residual.slice() ?? new Float32Array(live.length)
  let state = saved?.state ?? initialBroadcastState
  if (saved !== undefined) replica.reset(saved.units)

  function dispatch(event: BroadcastEvent): readonly OpenEffect[] {
    const [next, effects] = stepBroadcast(config, state, event)
    state = next
    return effects.filter((effect): effect is OpenEffect => {
      if (effect.type !== 'count') return true
      follow(replica, live, stepOf(config, effect.update), effect.sign)
      return false
    })
  }
  const onReplica = () => live.set(replica.parameters)
  return {
    replica: replica.parameters,
    state: () => state,
    dispatch,
    publish(weighing) {
      const { decay, rng, resumeAt = 'replica' } = parts
      const { codec } = config.rule
      const told = pseudoGradient({ live, replica: replica.parameters, residual, decay, resumeAt, codec, rng })
      const update = signedUpdate(parts, state, told.payload, weighing)
      const effects = dispatch({ type: 'own', update })
      residual = told.residual
      onReplica()
      if (resumeAt === 'own') axpy(decay, residual, live)
      return effects
    },
    replay(entries) {
      const before = headOf(authorOf(state, config.self))
      const [next, counts] = replayBroadcast(state, entries)
      state = next
      for (const { update, sign } of counts) follow(replica, live, stepOf(config, update), sign)
      // What the residual held has been told since, or was lost with the local steps.
      if (headOf(authorOf(state, config.self)) === before) return
      residual = new Float32Array(live.length)
      onReplica()
    },
    onReplica,
    restore(untold) {
      residual = untold.residual.slice()
      for (let i = 0; i < live.length; i++) live[i] = replica.parameters[i]! + untold.progress[i]!
    },
    hash: replica.hash,
    saved: () => ({ state, units: replica.units(), residual }),
    snapshot() {
      const heads = snapshotHeads(state)
      return { heads, units: unitsAt(config, state, replica.units(), heads)! }
    },
    unitsAt: (heads) => unitsAt(config, state, replica.units(), heads),
    adopt(snapshot) {
      const adopted = adoptHeads(state, snapshot.heads)
      if (adopted === undefined) return false
      const before = replica.parameters.slice()
      replica.reset(snapshot.units)
      for (const update of adopted.recount) replica.add(stepOf(config, update), 1)
      state = adopted.state
      for (let i = 0; i < live.length; i++) live[i] = moved(live[i]!, before[i]!, replica.parameters[i]!)
      return true
    }
  }
}

/** What a counted update adds: it was examined before it was counted. */
function stepOf({ rule }: BroadcastConfig, update: Update): Contribution {
  const contribution = contributionOf(rule, update)
  if (contribution.ok) return contribution.value
  throw new PeertuneError('consensus/unexamined-update', 'an update was counted that does not decode', {
    facts: { author: update.author, sequence: update.sequence }
  })
}

/** Live parameters go with the replica and keep what was learned on top; without that they are equal to it. */
const moved = (live: number, before: number, after: number): number =>
  live === before ? after : live + (after - before)

function follow(replica: Replica, live: Float32Array, contribution: Contribution, sign: 1 | -1): void {
  const { indices } = contribution
  const before = Float32Array.from(indices, (index) => replica.parameters[index]!)
  replica.add(contribution, sign)
  for (let k = 0; k < indices.length; k++) {
    const i = indices[k]!
    live[i] = moved(live[i]!, before[k]!, replica.parameters[i]!)
  }
}

function signedUpdate(
  { config, sign }: BroadcasterParts,
  state: BroadcastState,
  payload: Uint8Array,
  weighing: Weighing
): Update {
  const { self, federation, schemaHash } = config
  const own = authorOf(state, self)
  if (own.stop !== undefined)
    throw new PeertuneError(
      'consensus/own-chain-stopped',
      'another node has written updates with the key of this one',
      {
        facts: { sequence: own.stop[0].sequence },
        hint: 'never run two nodes with one identity, nor one from an old copy of its data directory; start anew with a new identity'
      }
    )
  const body = encodeUpdateBody({
    federation,
    schema: schemaHash,
    author: self,
    sequence: headOf(own) + 1,
    previous: headHashOf(own),
    payload,
    ...weighing
  })
  const signed: SignedUpdate = { body, signature: sign(body) }
  const update = readUpdate(signed, mostUpdateBytes(config))
  if (update.ok) return update.value
  throw new PeertuneError('consensus/own-side-unreadable', 'our own update cannot be read', {
    facts: { bytes: body.length }
  })
}
