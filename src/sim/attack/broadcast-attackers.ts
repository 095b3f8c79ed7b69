import { seededRng } from '../../base/rng.js'
import type { Update } from '../../codec/wire/update.js'
import { encodeUpdateBody, readUpdate } from '../../codec/wire/update-frame.js'
import { MAX_WEIGHT } from '../../consensus/weight.js'
import { garbage, type LiarParts } from './attackers.js'
import { simSign } from '../world/broadcast-signature.js'
import { omniscientAttack } from './omniscient-attacks.js'
import type { PeerIndex } from '../world/network.js'

/** How a dishonest author differs: what it makes of an update before it tells somebody of it. */
export interface BroadcastTamper {
  /** What it claims to have learned: changes the vector of live parameters before an update is made of it. */
  learned(live: Float32Array, replica: Float32Array): void
  /** What one neighbour is told instead of the update; nothing, or something that is no update. */
  told(update: Update, neighbour: PeerIndex): Uint8Array | Update | undefined
  /** Whether it answers in conversations. */
  readonly answers: boolean
  /** Training examples it says it has; absent: what it has. */
  readonly samples?: number
}

/** Times what it has learned that an attacker with large values claims. */
const LARGE = 1e4
const MAX_BODY_BYTES = 1 << 24

const HONEST: BroadcastTamper = { learned: () => undefined, told: (update) => update, answers: true }

export function createBroadcastTamper({ attack, scenario, peer, insight }: LiarParts): BroadcastTamper {
  const rng = seededRng(scenario.seed, 'attacker', peer)
  const times = (factor: number) => (live: Float32Array, replica: Float32Array) => {
    for (let i = 0; i < live.length; i++) live[i] = replica[i]! + factor * (live[i]! - replica[i]!)
  }
  switch (attack) {
    case 'sign-flip':
      return { ...HONEST, learned: times(-1) }
    case 'heavy':
      return { ...HONEST, learned: times(-1), samples: MAX_WEIGHT }
    case 'large-values':
      return { ...HONEST, learned: times(LARGE) }
    case 'nan-payload':
      // A binary16 NaN wherever a scale may lie.
      return { ...HONEST, told: (update) => rewritten(update, { payload: update.payload.map(() => 0x7e) }) }
    case 'garbage-frames':
      return { ...HONEST, told: () => garbage(rng) }
    case 'silence':
    case 'free-ride':
      return { ...HONEST, told: () => undefined, answers: false }
    case 'stale-replay':
      return staleReplay()
    case 'equivocation':
      return forkedChain()
    case 'label-flip':
      return HONEST
    case 'ipm':
    case 'alie':
    case 'dissensus':
    case 'mimic':
    case 'gaussian':
    case 'gradient-assembly': {
      const lie = omniscientAttack(attack, insight)
      const { liars } = insight
      // Everybody is told the same, so the victim is what everybody has: the replica, from which all have gone.
      const learned = (live: Float32Array, replica: Float32Array) =>
        live.set(lie({ own: live, start: replica, victim: replica, honest: insight.honest(), liars, rng }))
      return { ...HONEST, learned }
    }
    case 'sybil':
      throw new Error('refused when the scenario was read')
  }
}

/** Another update with the same number, well signed. */
function rewritten(update: Update, changes: Partial<Update>): Update {
  const body = encodeUpdateBody({ ...update, ...changes })
  const read = readUpdate({ body, signature: simSign(update.author, body) }, MAX_BODY_BYTES)
  if (!read.ok) throw new Error('an attacker cannot read what it wrote')
  return read.value
}

/** Says for ever what it said first. */
function staleReplay(): BroadcastTamper {
  let first: Update | undefined
  return {
    ...HONEST,
    told(update) {
      first ??= update
      return first
    }
  }
}

/** Every second neighbour hears of another branch from some number on. */
function forkedChain(): BroadcastTamper {
  const other = new Map<number, Update>()
  return {
    ...HONEST,
    told(update, neighbour) {
      if (neighbour % 2 === 0 || update.sequence < 3) return update
      const previous = other.get(update.sequence - 1)?.hash ?? update.previous
      const made = other.get(update.sequence) ?? rewritten(update, { samples: update.samples + 1, previous })
      other.set(update.sequence, made)
      return made
    }
  }
}
