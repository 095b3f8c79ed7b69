import { type Rng, seededRng } from '../../base/rng.js'
import { defaultGamma, PSEUDO_GRADIENT_CODECS } from '../../codec/registry.js'
import { OVERLAY_KINDS } from '../../consensus/partners/overlay.js'
import { type Attack, ATTACKS, readScenario, type Scenario } from './scenario.js'

/** The worst of everything that a random scenario may draw. */
const MOST = { loss: 0.3, duplication: 0.2, reordering: 0.3, cut: 0.3, crashesPerMinute: 6, peers: 12 } as const

/** Exact, rounded, sparse, and with a memory of the edge. */
const CODECS = ['float32', 'int8', 'int8', 'int4', 'topk', 'int8-edge', 'topk-int4-edge'] as const

/** The attacks that broadcasts have always drawn from; the others come from a source of their own. */
const FIRST_ATTACKS = ATTACKS.slice(0, 8)

/** Zero half of the time, so that faults come alone as well as together. */
const some = (rng: Rng, most: number): number => (rng.integer(2) === 0 ? 0 : most * rng.uniform())

const oneOf = <T>(rng: Rng, items: readonly T[]): T => items[rng.integer(items.length)]!

/**
 * A short life of a small network with faults of every kind, all from the seed: the scenarios of a deterministic
 * simulation test (FoundationDB, Zhou et al. 2021, https://doi.org/10.1145/3448016.3457559, section 4).
 */
export function randomScenario(seed: string): Scenario {
  const rng = seededRng(seed, 'random-scenario')
  const peers = 2 + rng.integer(MOST.peers - 1)
  const durationMs = 10_000 + rng.integer(20_000)
  const trains = rng.integer(2) === 0
  const codec = oneOf(rng, CODECS)
  // From a source of its own, so that what else a seed draws stays what it was.
  const rules = seededRng(seed, 'random-rules')
  const scenario = readScenario({
    name: 'random',
    seed,
    peers,
    durationMs,
    measureMs: durationMs,
    overlay: { kind: oneOf(rng, [...OVERLAY_KINDS, 'random-peers']), degree: 4, known: 1 + rng.integer(peers) },
    mixing: {
      codec,
      // Sparse codecs diverge with larger steps than theirs, and roundings with them.
      gamma: defaultGamma(codec) * oneOf(rng, [1, 0.5]),
      localSteps: 1 + rng.integer(6),
      totalSteps: trains && rng.integer(2) === 0 ? 20 + rng.integer(60) : 0,
      settleExchanges: 1 + rng.integer(6),
      // Every rule that promises to keep the mean is held to it, with faults and liars around.
      clip: oneOf(rules, [0, 0, 0, 0.5]),
      step: oneOf(rules, ['pair', 'pair', 'metropolis']),
      maxPull: oneOf(rules, [1, 0.5])
    },
    workload: { kind: trains ? 'quadratic' : 'none', size: 1 + rng.integer(12), samples: [1, 1000] },
    network: {
      latencyMs: [1, 1 + rng.integer(200)],
      jitter: rng.uniform(),
      loss: some(rng, MOST.loss),
      duplication: some(rng, MOST.duplication),
      reordering: some(rng, MOST.reordering),
      cut: some(rng, MOST.cut),
      frameTimeoutMs: 500 + rng.integer(3_000)
    },
    peer: {
      stepMs: [20, 20 + rng.integer(300)],
      clockSkew: some(rng, 0.2),
      crashesPerMinute: some(rng, MOST.crashesPerMinute),
      downMs: [10, 10 + rng.integer(5_000)],
      checkpointEvery: rng.integer(8),
      syncMs: rng.integer(40),
      announceMs: oneOf(rng, [0, 0, 1_000])
    },
    partitions: Array.from({ length: rng.integer(3) }, () => ({
      atMs: rng.integer(durationMs),
      forMs: rng.integer(Math.floor(durationMs / 2)),
      groups: 2 + rng.integer(2)
    })),
    attackers: randomAttackers(seed, { peers, trains, broadcast: false })
  })
  return readScenario(withChurn(scenario))
}

/** Peers that come late, and peers that are away, in a quarter of the scenarios each; in one of sixteen for an hour. */
function withChurn(base: Scenario): Scenario {
  const rng = seededRng(base.seed, 'random-fates')
  const scenario = rng.integer(16) === 0 ? stretched(base) : base
  const { peers, durationMs, attackers } = scenario
  const honest = peers - attackers.reduce((sum, { count }) => sum + count, 0)
  const atMs = (): number => 1 + rng.integer(Math.floor(0.7 * durationMs))
  const joiners =
    honest > 2 && rng.integer(4) === 0 ? [{ count: 1 + rng.integer(Math.max(1, (honest - 2) >> 1)), atMs: atMs() }] : []
  const [away, from, forMs] = [rng.integer(4) === 0, atMs(), rng.integer(Math.floor(0.3 * durationMs))]
  const hour = { count: 1, atMs: Math.floor(0.1 * durationMs), forMs: AWAY_MS }
  const absences = scenario !== base ? [hour] : away ? [{ count: 1, atMs: from, forMs }] : []
  return { ...scenario, joiners, absences }
}

/** An hour, and the length of a life in which somebody is away for so long. */
const AWAY_MS = 3_600_000
const LONG_LIFE_MS = 4_500_000

/** The same life in slow motion, without an end of training: nobody is idle for hours. */
function stretched(base: Scenario): Scenario {
  const by = LONG_LIFE_MS / base.durationMs
  const longer = (ms: number): number => Math.floor(ms * by)
  const { peer, partitions, mixing } = base
  const pace = ([low, high]: readonly [number, number]) => [longer(low), longer(high)] as const
  return {
    ...base,
    durationMs: LONG_LIFE_MS,
    measureMs: LONG_LIFE_MS,
    mixing: { ...mixing, totalSteps: 0 },
    peer: {
      ...peer,
      stepMs: pace(peer.stepMs),
      // Back before everything must be settled.
      downMs: peer.downMs,
      crashesPerMinute: peer.crashesPerMinute / by,
      announceMs: Math.min(600_000, longer(peer.announceMs))
    },
    partitions: partitions.map(({ atMs, forMs, groups }) => ({ atMs: longer(atMs), forMs: longer(forMs), groups }))
  }
}

interface Attackable {
  readonly peers: number
  readonly trains: boolean
  readonly broadcast: boolean
}

/** In one scenario of four, of all kinds that have something to attack; at least two peers are honest. */
function randomAttackers(seed: string, { peers, trains, broadcast }: Attackable) {
  const rng = seededRng(seed, 'random-attackers')
  if (peers < 4 || rng.integer(4) > 0) return []
  const suits = (attack: Attack): boolean =>
    attack === 'gradient-assembly' ? false : attack === 'label-flip' ? trains : attack !== 'sybil' || !broadcast
  const attack = oneOf(rng, ATTACKS.filter(suits))
  return [{ attack, count: 1 + rng.integer(Math.max(1, (peers - 2) >> 1)) }]
}

/** As `randomScenario`, with peers that broadcast, and now and then an author that equivocates. */
export function randomBroadcastScenario(seed: string): Scenario {
  const rng = seededRng(seed, 'random-broadcast')
  const { mixing, overlay, ...base } = randomScenario(seed)
  const { peers, workload } = base
  const kind = oneOf(rng, OVERLAY_KINDS)
  const broadcast = {
    mode: 'broadcast',
    localSteps: 5 + rng.integer(30),
    codec: oneOf(rng, PSEUDO_GRADIENT_CODECS),
    fraction: 0.02 + 0.48 * rng.uniform()
  }
  const rule = {
    outerStep: oneOf(rng, [0.7, 1, 2]),
    decay: oneOf(rng, [0.95, 1]),
    maxStep: oneOf(rng, [1, 0.01]),
    syncMs: (200 + rng.integer(3_000)) * (base.durationMs === LONG_LIFE_MS ? 10 : 1),
    resumeAt: oneOf(seededRng(seed, 'random-resume'), ['replica', 'own'])
  }
  const first = peers > 3 && rng.integer(4) === 0 ? [{ attack: oneOf(rng, FIRST_ATTACKS), count: 1 }] : []
  const more = randomAttackers(seed, { peers: peers - 1, trains: workload.kind !== 'none', broadcast: true })
  const attackers = [...first, ...more]
  const compaction = randomCompaction(seed, attackers)
  return readScenario({
    ...base,
    name: 'random-broadcast',
    // Only peers that hear all others know what most of them have.
    overlay: { ...overlay, kind: compaction === undefined ? kind : 'complete' },
    mixing: { ...mixing, ...broadcast },
    broadcast: { ...rule, ...compaction },
    attackers
  })
}

/**
 * In every second scenario old updates are compacted as soon as a few hundred to a few thousand bytes are held. Not where an
 * author equivocates: what was compacted before that was seen is not undone.
 */
function randomCompaction(seed: string, attackers: readonly { readonly attack: Attack }[]) {
  const rng = seededRng(seed, 'random-folding')
  const compacts = rng.integer(2) === 0 && !attackers.some(({ attack }) => attack === 'equivocation')
  return compacts ? { maxHeldBytes: 300 + rng.integer(6_000) } : undefined
}
