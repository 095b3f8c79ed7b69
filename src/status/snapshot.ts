/** Settling: gossip only, learning rate 0. Done: all is finished, but it still answers others. */
export type Phase = 'starting' | 'training' | 'settling' | 'done' | 'stopping'

export interface PeerStatus {
  readonly peerId: string
  /** What the peer calls itself; written by the peer, so never trusted as markup. */
  readonly label?: string
  readonly connected: boolean
  /** Whether its federation hash is ours; absent until it has announced one. */
  readonly sameFederation?: boolean
  readonly lastExchangeAtMs?: number
  /** Local steps taken here since the last completed exchange with it. */
  readonly stalenessSteps?: number
  /** Milliseconds since the last completed exchange with it. */
  readonly stalenessMs?: number
  readonly exchanges: number
  readonly bytesOut: number
  readonly bytesIn: number
  /** How often something it sent was refused. */
  readonly refusals: number
  /** The same by the verdict's code; absent where nothing was. */
  readonly refusedFor?: Readonly<Record<string, number>>
  /** What is held against it: the rule it last broke, and until when it is turned away for it, if it is. */
  readonly offence?: {
    readonly code: string
    readonly detail?: string
    readonly atMs: number
    readonly bannedUntilMs?: number
  }
  /** Distance of our parameters from its own at the last exchange, before mixing. */
  readonly distance?: number
  /** Of LoRA factors with that peer: ||mean(BA) - mean(B) mean(A)||, what averaging factors leaves out. */
  readonly crossTerm?: number
}

export interface BootstrapStatus {
  readonly address: string
  readonly state: 'trying' | 'connected' | 'failed'
  readonly attempts: number
  /** One sentence: why the address does not answer, or that it does. */
  readonly sentence: string
}

/** A metric on the held-out examples. */
export interface EvaluationStatus {
  readonly metric: 'accuracy' | 'loss' | 'mse'
  /** A share of 1 for accuracy; nats for loss; mean squared error of a regression. */
  readonly value: number
  readonly atStep: number
}

/**
 * A read-only copy of everything a node says about itself. Units are in the names; times are milliseconds since the
 * epoch.
 */
export interface Status {
  readonly version: string
  readonly peerId: string
  readonly label: string
  /** Multiaddrs others can dial, peer id included. */
  readonly addresses: readonly string[]
  readonly federation: { readonly name: string; readonly hash: string }
  /** `schemaHash`: of the trainable parameters' names and shapes; empty until the trainer is ready. */
  readonly model: {
    readonly path: string
    readonly sha256: string
    readonly parameters: number
    readonly schemaHash: string
  }
  readonly task: string
  /** The device that really runs the graph, and why it is not the one asked for where it differs. */
  readonly device: { readonly used: string; readonly reason?: string; readonly nodeShare?: number }
  /**
   * What training steps multiply frozen matrices in, and for int8 the cosine of the first step's gradients to those in
   * float32.
   */
  readonly arithmetic: { readonly used: 'float32' | 'int8'; readonly float32Cosine?: number }
  readonly phase: Phase
  readonly steps: { readonly done: number; readonly total: number; readonly perSecond: number }
  /** Cross entropy in nats of the last local step, and smoothed over many. */
  readonly loss: { readonly last?: number; readonly smoothed?: number }
  readonly evaluation?: EvaluationStatus
  /** This peer's own examples, counts alone; absent before the data source is looked at. */
  readonly data?: {
    readonly kind: string
    /** Rows read so far. */
    readonly rows: number
    /** Share of the source that is read, in [0, 1]. */
    readonly read: number
    /** Once it is read: examples to train on, held out, and rows left out because they are broken. */
    readonly training?: number
    readonly heldOut?: number
    readonly skipped?: number
  }
  readonly peers: readonly PeerStatus[]
  readonly bytes: {
    readonly sent: number
    readonly received: number
    /** What the same exchanges would have sent as plain float32. */
    readonly float32Equivalent: number
    /** float32Equivalent / sent; 0 before the first byte. */
    readonly savedRatio: number
  }
  /** What the exchanges since the start have shown; absent before the first. */
  readonly mixing?: {
    /** Distance to the partner before mixing, over about the last ten exchanges. */
    readonly distance: number
    readonly crossTerm?: number
    /** It as a share of the mean product; above a few hundredths, shorter rounds or `mixing.productAbove` help. */
    readonly crossShare?: number
    /** Share of the exchanges that followed the partner less than all the way. */
    readonly clipRate: number
    /** Bytes of the exchange protocol in both directions for each exchange that was made. */
    readonly bytesPerExchange: number
  }
  /** Local steps since parameters of others last entered ours, and how many there may be before this node waits. */
  readonly staleness?: {
    readonly steps: number
    readonly limit: number
    /**
     * It waits now: for an exchange; where peers broadcast, for contact with anybody, or for room: most peers must first have
     * what is kept for them.
     */
    readonly waitsFor?: 'exchange' | 'contact' | 'room'
  }
  /** Neighbours on the federation's overlay; absent where partners are drawn at random. */
  readonly neighbours?: readonly string[]
  /** The last time this node had fallen behind and went to the middle of several peers' states. */
  readonly caughtUp?: {
    readonly reason: string
    readonly atMs: number
    readonly sources: number
    /** From where it was to that middle, and the share of that way that it kept. */
    readonly distance: number
    readonly kept: number
  }
  /** States given to others to read, since the start. */
  readonly statesGiven?: number
  /** Where peers broadcast: what was told and heard since the start, and what is counted. */
  readonly broadcast?: {
    /** Updates of our own that were told; taken in, of everybody. */
    readonly published: number
    readonly counted: number
    /** The version vector: by author, the number of the last update counted. */
    readonly authors: readonly {
      readonly author: string
      readonly sequence: number
      /** The number with which the author has signed two updates; nothing of it counts behind that. */
      readonly stoppedAt?: number
    }[]
    /** Updates kept one by one, and those that wait for one before them. */
    readonly held: number
    readonly waiting: number
    /** Peers that have said they have something we lack. */
    readonly peersAhead: number
    /** Equivocations of authors, and snapshots of old updates adopted. */
    readonly caught: number
    readonly snapshots: number
    /** Bytes published and said on sync streams, and heard there. */
    readonly sent: number
    readonly received: number
    /** SHA-256 of the replica: equal at peers that have counted the same. */
    readonly replicaHash: string
  }
  /** In doubt: the answer that settles it has not come yet. */
  readonly exchanges: {
    readonly completed: number
    readonly failed: number
    /** The failed ones by the code of what ended them. */
    readonly failures: Readonly<Record<string, number>>
    readonly inDoubt: number
  }
  /** Refused messages and exchanges by verdict code. */
  readonly refusals: Readonly<Record<string, number>>
  readonly bootstrap: readonly BootstrapStatus[]
  readonly trainer: { readonly pid?: number; readonly restarts: number }
  /** The last exchange round that ended well. */
  readonly lastGoodRound?: number
  readonly checkpoint?: { readonly step: number; readonly atMs: number }
  readonly startedAtMs: number
  readonly uptimeSeconds: number
}

/** Ready: joined its federation and at work, so that a supervisor may count on it. */
export const isReady = ({ phase }: Status): boolean => phase !== 'starting' && phase !== 'stopping'
