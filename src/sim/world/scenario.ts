import { PeertuneError } from '../../base/errors.js'
import { CODEC_NAMES, isPseudoGradientCodec, needsSchema, PSEUDO_GRADIENT_CODECS } from '../../codec/registry.js'
import { MAX_HELD_BYTES } from '../../consensus/broadcast/compaction.js'
import { MAX_AUTHORS } from '../../consensus/broadcast/fixed-point.js'
import { DEFAULT_DEGREE, OVERLAY_KINDS } from '../../consensus/partners/overlay.js'
import { MAX_RECENT_STATES } from '../../consensus/rules/robust-rule.js'
import { anything, flag, list, oneOf, real, section, span, text, type ValueOf, whole } from './fields.js'

/** Peers of one simulation: at ten thousand parameters each, 400 MB of them. */
const MAX_SIM_PEERS = 100_000
/** Virtual milliseconds of one simulation: a day. */
const MAX_DURATION_MS = 86_400_000

export const ATTACKS = [
  'sign-flip',
  'large-values',
  'nan-payload',
  'garbage-frames',
  'silence',
  'stale-replay',
  'equivocation',
  'free-ride',
  'ipm',
  'alie',
  'dissensus',
  'mimic',
  'gaussian',
  'gradient-assembly',
  'label-flip',
  'sybil',
  'heavy'
] as const
export type Attack = (typeof ATTACKS)[number]

/** `random-peers`: everybody knows `known` others drawn at random, whom the partner choice then samples from. */
const SIM_OVERLAYS = [...OVERLAY_KINDS, 'random-peers'] as const

const workload = section({
  /**
   * `none`: peers that start apart and only mix; what is left to see is consensus. `trained`: a real model, as the
   * section `training` says; the other fields of this section are then without meaning.
   */
  kind: oneOf('none', ['none', 'quadratic', 'logistic', 'trained']),
  /** Parameters per peer. */
  size: whole(32, 1, 1_000_000),
  learningRate: real(0.05, 0, 100),
  /** Standard deviation of the noise on a quadratic's gradient. */
  noise: real(0.1, 0, 100),
  /** 0: every peer has the same data. 1: each has its own. */
  heterogeneity: real(0.5, 0, 1),
  /** Training examples of the peers; their weights. Drawn uniformly. */
  samples: span([50, 150], 1, 1_000_000)
})

const network = section({
  /** One way, by pair of peers, drawn uniformly. */
  latencyMs: span([20, 80], 0, 60_000),
  /** Added to each frame at random, as a share of its latency. */
  jitter: real(0.2, 0, 10),
  /** Megabits a second that a peer can send, drawn uniformly. */
  uplinkMbps: span([20, 100], 0.001, 1_000_000),
  /** Probability that a frame never arrives. */
  loss: real(0, 0, 1),
  /** Probability that a frame arrives a second time. */
  duplication: real(0, 0, 1),
  /** Probability that a frame is overtaken by those behind it. */
  reordering: real(0, 0, 1),
  /** Probability that a link breaks, at one of its first frames. */
  cut: real(0, 0, 1),
  /** A peer that hears nothing on a link for this long gives it up. */
  frameTimeoutMs: whole(3_000, 1, 600_000)
})

const peer = section({
  /** Milliseconds of a local step, by peer. */
  stepMs: span([200, 300], 1, 600_000),
  /** Peers' clocks run fast or slow by up to this share, and are off by up to a minute of it. */
  clockSkew: real(0, 0, 0.5),
  /** Crashes of one peer in a virtual minute, on average. */
  crashesPerMinute: real(0, 0, 60),
  /** How long a crashed peer is gone. */
  downMs: span([500, 5_000], 0, MAX_DURATION_MS),
  /** Exchanges between two checkpoints; 0 for none after the first. */
  checkpointEvery: whole(10, 0, 1_000_000),
  /** Milliseconds until what was written is safe from a crash. */
  syncMs: real(5, 0, 10_000),
  /** Whether exchanges are recorded between checkpoints. Without it a crash loses what its partners keep. */
  exchangeLog: flag(true),
  /**
   * Whether those that join late, were away or are the odd one out look at several others' states first, as in the daemon;
   * never where peers only mix, since there everybody's start is part of the answer.
   */
  catchUp: flag(true),
  /** Milliseconds between two announcements of phase; 0: everybody knows everybody's phase. */
  announceMs: whole(0, 0, 600_000)
})

const partition = section({
  atMs: whole(0, 0, MAX_DURATION_MS),
  forMs: whole(0, 0, MAX_DURATION_MS),
  /** Groups that do not reach each other; peers are dealt out in turn. */
  groups: whole(2, 2, 64)
})

const joiner = section({
  count: whole(1, 1, MAX_SIM_PEERS),
  atMs: whole(30_000, 1, MAX_DURATION_MS)
})

const absence = section({
  count: whole(1, 1, MAX_SIM_PEERS),
  atMs: whole(0, 0, MAX_DURATION_MS),
  forMs: whole(3_600_000, 0, MAX_DURATION_MS)
})

const attackers = section({
  attack: oneOf('sign-flip', ATTACKS),
  count: whole(1, 1, MAX_SIM_PEERS)
})

const SCENARIO = section({
  name: text('scenario'),
  seed: text('1'),
  peers: whole(16, 2, MAX_SIM_PEERS),
  /** Virtual milliseconds; then faults end, and what is in doubt is settled. */
  durationMs: whole(60_000, 1, MAX_DURATION_MS),
  /** Virtual milliseconds between two measurements. */
  measureMs: whole(2_000, 1, MAX_DURATION_MS),
  overlay: section({
    kind: oneOf('random-regular', SIM_OVERLAYS),
    /** Of a random regular overlay. */
    degree: whole(DEFAULT_DEGREE, 2, 1024),
    /** Peers that one knows, with `random-peers`. */
    known: whole(64, 1, 1024)
  }),
  mixing: section({
    /** `broadcast`: updates to everybody instead of exchanges in pairs. */
    mode: oneOf('pairwise', ['pairwise', 'broadcast']),
    codec: oneOf('int8', CODEC_NAMES),
    gamma: real(1, 0.001, 1),
    /** Share of the elements that a sparse codec sends. */
    fraction: real(0.1, 0.0001, 0.5),
    localSteps: whole(4, 1, 1_000_000),
    /** Local steps in all; then peers settle. 0: they never stop. */
    totalSteps: whole(0, 0, 1_000_000_000),
    settleExchanges: whole(12, 1, 1_000),
    /** Partners are followed up to this many median distances; 0: all the way. */
    clip: real(0, 0, 1_000),
    /** Of the way to a partner, what an exchange takes either side at most; 1: what the weights say. */
    maxPull: real(1, 0.01, 1),
    /** `metropolis`: along the overlay's edges in turn, with Metropolis-Hastings weights; `pair`: any neighbour, pairs average. */
    step: oneOf('pair', ['pair', 'metropolis']),
    /** Rules over the last `window` partners' states; of these and oneself, `liars` may lie. */
    robust: oneOf('none', ['none', 'trimmed-mean', 'nnm', 'balance']),
    window: whole(5, 2, MAX_RECENT_STATES),
    liars: whole(2, 1, 4),
    /** NoLoCo's outer momentum: how much of the last outer step goes on; 0: none, and no outer step. */
    outerDecay: real(0, 0, 0.99),
    outerStep: real(0.7, 0.01, 2)
  }),
  /** With `mixing.mode: broadcast`. */
  broadcast: section({
    /** What the weighted mean of pseudo-gradients is multiplied by. */
    outerStep: real(1, 0.001, 100),
    /** What is left of a residual from one update to the next. */
    decay: real(0.95, 0, 1),
    /** Where a peer trains on once it has told. */
    resumeAt: oneOf('replica', ['replica', 'own']),
    /** The most an update may move one parameter. */
    maxStep: real(1, 0.000_001, 1),
    /** Milliseconds between two conversations in which a peer tells another what it lacks. */
    syncMs: whole(1_000, 1, 600_000),
    /** Bytes of updates that a peer keeps one by one before it adds old ones up. */
    maxHeldBytes: whole(MAX_HELD_BYTES, 1, 2 ** 40)
  }),
  workload,
  /** What a workload of the kind `trained` trains; whoever opens model and data checks it. */
  training: anything,
  network,
  peer,
  partitions: list(partition, 64),
  /** Peers that begin later than the others: the last honest ones. */
  joiners: list(joiner, 16),
  /** Peers that are gone for a while, with what their disk has: the first ones. */
  absences: list(absence, 16),
  attackers: list(attackers, 16)
})

export type Scenario = ValueOf<typeof SCENARIO>

/** Reads a scenario, defaults filled in. Throws `config/bad-scenario` with the path of the first mistake. */
export function readScenario(value: unknown): Scenario {
  const scenario = SCENARIO.read(value, '')
  const { attackers: hostile, mixing, peers, joiners, absences, durationMs } = scenario
  const count = hostile.reduce((sum, one) => sum + one.count, 0)
  if (count > peers - 2) throw refused('attackers', `at least two honest peers, ${count} of ${peers} attack`)
  const late = joiners.reduce((sum, one) => sum + one.count, 0)
  if (late > peers - count - 2) throw refused('joiners', `at least two honest peers from the beginning, ${late} join`)
  if (joiners.some(({ atMs }) => atMs >= durationMs)) throw refused('joiners', 'to join before durationMs')
  if (absences.some(({ atMs, forMs }) => atMs + forMs > durationMs)) throw refused('absences', 'to end by durationMs')
  const trains = scenario.workload.kind === 'trained'
  if (trains !== (scenario.training !== undefined))
    throw refused('training', `a section where workload.kind is trained, and nowhere else`)
  if (needsSchema(mixing.codec) && !trains)
    throw refused('mixing.codec', `a codec for plain vectors, got ${mixing.codec}`)
  requireBroadcastable(scenario)
  for (const { attack } of hostile) requireAttackable(scenario, attack)
  return scenario
}

/** Some attacks need something to attack. */
function requireAttackable({ workload: { kind }, mixing }: Scenario, attack: Attack): void {
  if (attack === 'label-flip' && kind === 'none') throw refused('attackers', 'a workload with labels for label-flip')
  if (attack === 'gradient-assembly' && kind !== 'trained')
    throw refused('attackers', 'workload.kind trained, whose method has factors, for gradient-assembly')
  // Whoever makes names without end keeps others out, whatever it says: there is nothing to see. Name the authors there.
  if (attack === 'sybil' && mixing.mode === 'broadcast')
    throw refused('attackers', 'mixing.mode pairwise for sybil: in a broadcast new names fill maxAuthors')
}

/** Everybody must be able to hear of everybody in the end. */
function requireBroadcastable({ mixing, overlay, peers }: Scenario): void {
  if (mixing.mode !== 'broadcast') return
  if (!isPseudoGradientCodec(mixing.codec)) throw refused('mixing.codec', `one of ${PSEUDO_GRADIENT_CODECS.join(', ')}`)
  if (overlay.kind === 'random-peers') throw refused('overlay.kind', 'an overlay that is connected')
  if (peers > MAX_AUTHORS) throw refused('peers', `at most ${MAX_AUTHORS} that broadcast`)
}

const refused = (path: string, expected: string): PeertuneError =>
  new PeertuneError('config/bad-scenario', `${path}: expected ${expected}`, { facts: { path } })
