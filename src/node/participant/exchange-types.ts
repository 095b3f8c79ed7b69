import type { Clock } from '../../base/clock.js'
import type { FederationManifest } from '../../base/federation.js'
import type { Logger } from '../../base/log.js'
import type { Verdict } from '../../base/verdict.js'
import type { ExchangeLog } from '../../checkpoint/exchange-log.js'
import type { Phase, RefusalCode } from '../../codec/wire/messages.js'
import type {
  ExchangeConfig,
  ExchangeOutcome,
  ExchangeVerdictCode,
  LocalState
} from '../../consensus/exchange/types.js'
import type { ExchangeRole, Journal, JournalDocument, Observation } from '../../consensus/exchange/journal.js'
import type { ExchangeTask, TaskResults } from '../../consensus/exchange/tasks.js'
import type { PeerId, Transport } from '../../gossip/transport.js'
import type { ParameterSchema } from '../../tensor/schema.js'

/** Whoever owns the live parameters. Both methods are called between two ticks of training, never during one. */
export interface ParameterHolder {
  /** float32[schema.size]; read at once, not kept. */
  parameters(): Float32Array
  /** Adds an increment, float32[schema.size], to the live parameters. */
  add(increment: Float32Array): void
}

export interface CommittedExchange {
  readonly peer: PeerId
  readonly role: ExchangeRole
  readonly partnerPhase: Phase
  readonly atMs: number
  /** Absent for one that an earlier version of the software left in doubt. */
  readonly observed?: Observation
}

/** Does tasks of the exchange machine away from the event loop, one after the other. */
export interface ExchangeTasks {
  /** Rejects with the task's error, and when the thread has ended; the next task starts another thread. */
  run(task: ExchangeTask): Promise<TaskResults[keyof TaskResults]>
  close(): Promise<void>
}

/** All that another thread needs to come to the same results: plain data. */
export interface ExchangeTasksInit {
  readonly config: Pick<ExchangeConfig, 'self' | 'federation' | 'weight' | 'incarnation' | 'reference'>
  readonly manifest: FederationManifest
  /** Of what is exchanged. */
  readonly schema: ParameterSchema
}

export interface ExchangeDriverComponents {
  readonly transport: Transport
  readonly clock: Clock
  readonly holder: ParameterHolder
  /** Our phase now. */
  readonly phase: () => Phase
  /** How far we are, and among how many neighbours. Default: nowhere yet, and no overlay. */
  readonly place?: () => Pick<LocalState, 'step' | 'progress' | 'degree'>
  /** Without it, a crash loses the exchanges since the last checkpoint, whose partners keep their halves. */
  readonly exchangeLog?: Pick<ExchangeLog, 'append' | 'synced'>
  /** Does the arithmetic of exchanges elsewhere; without it, on the event loop. The driver closes it. */
  readonly tasks?: ExchangeTasks
  readonly logger?: Logger
  /** Mean loss in nats of any parameters on a batch of ours, for rules that compare losses. */
  readonly lossOf?: (parameters: Float32Array) => Promise<number>
  /** Called after the increment was added, in the same tick. */
  readonly onCommitted?: (exchange: CommittedExchange) => void
  /** `reject` should cost the peer something; `ignore` (silence, bad timing) is for counting. */
  readonly onVerdict?: (peer: PeerId, verdict: Verdict<ExchangeVerdictCode>) => void
}

export interface ExchangeDriverInit {
  readonly config: ExchangeConfig
  /** From the checkpoint; default: nothing in doubt, nothing remembered. */
  readonly journal?: Journal
  /** Milliseconds a peer may take for one frame. Default FRAME_TIMEOUT_MS. */
  readonly frameTimeoutMs?: number
  /**
   * HELLOs one peer may send in a burst, and per second after that. Defaults HELLO_BURST, HELLOS_PER_SECOND. Its
   * messages and bytes are bounded in proportion (peer-budget.ts).
   */
  readonly helloBurst?: number
  readonly hellosPerSecond?: number
}

/** `unreachable`: no channel could be opened; `code` is the transport's. */
export type AttemptOutcome = ExchangeOutcome | { readonly kind: 'unreachable'; readonly code: string }

/** Counters since the start, of fixed shape. */
export interface ExchangeStats {
  readonly committed: number
  /** Exchanges in doubt now. */
  readonly inDoubt: number
  /** Given up as unknowable, MAX_IN_DOUBT being reached. */
  readonly forgotten: number
  /** What we told others, by code. */
  readonly refusedByUs: Readonly<Partial<Record<RefusalCode, number>>>
  /** What others told us, by code. */
  readonly refusedByOthers: Readonly<Partial<Record<RefusalCode, number>>>
  /** Judgements on what peers sent, by code. */
  readonly verdicts: Readonly<Partial<Record<ExchangeVerdictCode, number>>>
  /** Frames of the exchange protocol; the transport counts everything. */
  readonly bytesSent: number
  readonly bytesReceived: number
  readonly observed: ObservedExchanges
}

/** What the committed exchanges since the start have shown. */
export interface ObservedExchanges {
  readonly exchanges: number
  /** Of them, those that followed their partner less than all the way. */
  readonly clipped: number
  /** Of them, those that were coded against what the partner had been told before. */
  readonly onEdge: number
  /** Distance to the partner, before mixing, averaged over about the last ten. */
  readonly distance?: number
  /** ||mean(BA) - mean(B) mean(A)|| of the factors with the partner, likewise; absent without factors. */
  readonly crossTerm?: number
  /** It as a share of ||mean(BA)||, likewise. */
  readonly crossShare?: number
}

/** The exchange machine at work on a transport. */
export interface ExchangeDriver {
  /** Answers channels from now on. */
  start(): void
  /** Tries one exchange, settling an open doubt with that peer first. Rejects only for our own bugs. */
  exchangeWith(peer: PeerId): Promise<AttemptOutcome>
  /** True while an exchange is under way in either role. */
  busy(): boolean
  /** Peers we are in doubt with. */
  inDoubt(): readonly PeerId[]
  /** The last committed exchange with `peer`. */
  lastExchange(peer: PeerId): CommittedExchange | undefined
  stats(): ExchangeStats
  /** For the checkpoint; belongs to the parameters of the same tick. */
  journal(): JournalDocument
  /** Most partners hold us back: waiting does not help (consensus/rules/radius.ts). */
  oddOneOut(): boolean
  /** The parameters were moved by other means than an exchange: what was measured before is void. */
  moved(): void
  /** Lets an exchange under way end within STOP_GRACE_MS, then breaks every channel. Idempotent. */
  stop(): Promise<void>
}
