import type { DataSpec } from '../../data/spec.js'
import { MAX_BOOTSTRAP_ADDRESSES } from '../../gossip/limits.js'
import type { Arithmetic, Device } from '../../train/trainer.js'
import { dataSpec } from './data.js'
import * as f from './fields.js'
import { LOG_LEVELS, type LogLevel } from '../host/logger.js'

export type ScheduleKind = 'constant' | 'cosine'

export interface TrainingConfig {
  /** Local optimiser steps this peer takes before it settles. */
  readonly steps: number
  readonly batchSize: number
  /** Peak learning rate of AdamW. */
  readonly learningRate: number
  /** `cosine` falls from the peak to 0 over `steps`; `constant` stays. */
  readonly schedule: ScheduleKind
  /** Steps of linear rise from 0 before the schedule. */
  readonly warmupSteps: number
  /** Decoupled weight decay of AdamW. */
  readonly weightDecay: number
  readonly beta1: number
  readonly beta2: number
  readonly epsilon: number
  /** Seed of this peer's own choices (partners, rounding); its peer id is mixed in. */
  readonly seed: string
}

export interface HttpConfig {
  readonly host: string
  /** 0: any free port; the daemon prints which. */
  readonly port: number
  /** Allows a `host` that other machines can reach. The status page has no password. */
  readonly expose: boolean
}

/** What training may take; null: no bound. */
export interface MemoryConfig {
  /** Megabytes of one step's activations: layers run twice where that is needed to stay below. */
  readonly activationsMb: number | null
  /** Examples that go through the model at once; the gradients of a whole batch are added up. */
  readonly microBatch: number | null
  /** Megabytes for what frozen layers below the lowest adapter give for each example; 0 for none. */
  readonly activationCacheMb: number
  /** Resident megabytes beyond which the trainer process is replaced. */
  readonly limitMb: number | null
}

/** What is local to one node and never leaves it, except `label`. Every path is absolute. */
export interface NodeConfig {
  /** The federation manifest, see manifest.ts. */
  readonly federation: string
  /** The base model: an .onnx file, a folder with one, or `org/name[@revision][:file]` of the Hugging Face hub. */
  readonly model: string
  /** The adapter folder that the federation starts from, where its manifest names one (`startFrom`). */
  readonly startFrom: string | null
  /** The mask file of the federation's sparse method, where its mask stands in one. */
  readonly maskFile: string | null
  /** Rank slots (heads, in RAVAN) that this peer trains, where its federation allows for fewer than its rank; null: all. */
  readonly slots: number | null
  readonly dataDir: string
  /** Shown to other peers beside the peer id; empty: none. */
  readonly label: string
  readonly data: DataSpec
  readonly training: TrainingConfig
  readonly device: Device
  /** Threads of one operator; 1 is right when several peers share a machine. */
  readonly threads: number
  readonly memory: MemoryConfig
  /**
   * What training steps multiply frozen matrices in. `int8` is faster on CPUs with 8-bit instructions (see
   * docs/training.md) and inexact; the status tells by how much.
   */
  readonly arithmetic: Arithmetic
  /** Multiaddrs to listen on. */
  readonly listen: readonly string[]
  /** Multiaddrs, peer id included, of peers to try first. */
  readonly bootstrap: readonly string[]
  /** A pre-shared key file; only holders of the same key can connect. */
  readonly networkKey: string | null
  /** A file of peer ids to turn away, one a line; read again when it changes. */
  readonly denyList: string | null
  readonly http: HttpConfig
  /** Completed exchanges between two checkpoints. */
  readonly checkpointEvery: number
  readonly logLevel: LogLevel
}

/** Sockets to open; one for each network of the machine. */
const MAX_LISTEN_ADDRESSES = 16
const MAX_THREADS = 1024
/** The largest rank that a manifest may ask for. */
const MAX_SLOTS = 1024
/** Four terabytes: beyond any machine, below what a number of bytes loses digits at. */
const MAX_MEMORY_MB = 4 * 2 ** 20
const MAX_PORT = 65_535

const TCP_ADDRESS = `/(ip4/[0-9.]+|ip6/[0-9a-fA-F:.]+|dns[46]?/[A-Za-z0-9.-]+)/tcp/[0-9]{1,5}`
const listenAddress = f.matching(
  new RegExp(`^${TCP_ADDRESS}$`),
  'a listen address such as /ip4/0.0.0.0/tcp/0 or /ip4/127.0.0.1/tcp/4001'
)
const peerAddress = f.matching(
  new RegExp(`^${TCP_ADDRESS}/p2p/[1-9A-HJ-NP-Za-km-z]{40,64}$`),
  'an address with a peer id such as /ip4/192.0.2.1/tcp/4001/p2p/12D3KooW..., as the other node prints it'
)

const seed = () => f.text('a seed text', { max: 256 })
const training = f.section({
  steps: f.wholeNumber(1).default(400),
  batchSize: f.wholeNumber(1, 65_536).default(16),
  learningRate: f.number({ above: 0, max: 10 }).default(3e-3),
  schedule: f.oneOf(['constant', 'cosine']).default('cosine'),
  warmupSteps: f.wholeNumber(0).default(0),
  weightDecay: f.number({ min: 0, max: 1 }).default(0),
  beta1: f.number({ min: 0, below: 1 }).default(0.9),
  beta2: f.number({ min: 0, below: 1 }).default(0.999),
  epsilon: f.number({ above: 0, max: 1 }).default(1e-8),
  seed: seed().default('local')
})

const memory = f.section({
  activationsMb: f.nullable(f.wholeNumber(1, MAX_MEMORY_MB)).default(null),
  microBatch: f.nullable(f.wholeNumber(1, 65_536)).default(null),
  activationCacheMb: f.wholeNumber(0, MAX_MEMORY_MB).default(256),
  limitMb: f.nullable(f.wholeNumber(64, MAX_MEMORY_MB)).default(null)
})

const http = f.section({
  host: f.matching(/^[0-9A-Za-z.:-]{1,253}$/, 'an address to bind such as 127.0.0.1').default('127.0.0.1'),
  port: f.wholeNumber(0, MAX_PORT).default(0),
  expose: f.flag().default(false)
})

/** Every field of a node's configuration, its check and its default. */
export const configSchema = (defaults: { readonly dataDir: string; readonly threads: number }) =>
  f.section({
    federation: f.path('the federation file'),
    model: f.path('the base model (.onnx)'),
    startFrom: f.nullable(f.path('an adapter folder')).default(null),
    slots: f.nullable(f.wholeNumber(1, MAX_SLOTS)).default(null),
    maskFile: f.nullable(f.path('a mask file (.safetensors)')).default(null),
    dataDir: f.path('the data directory').default(defaults.dataDir),
    label: f.text('a name of at most 64 characters', { min: 0, max: 64 }).default(''),
    data: dataSpec,
    training: training.prefault({}),
    device: f.oneOf(['auto', 'cpu', 'cuda', 'webgpu', 'coreml', 'dml']).default('auto'),
    threads: f.wholeNumber(1, MAX_THREADS).default(defaults.threads),
    memory: memory.prefault({}),
    arithmetic: f.oneOf(['float32', 'int8']).default('float32'),
    listen: f
      .list(listenAddress, { of: 'addresses', min: 1, max: MAX_LISTEN_ADDRESSES })
      .default(['/ip4/0.0.0.0/tcp/0']),
    bootstrap: f.list(peerAddress, { of: 'addresses', max: MAX_BOOTSTRAP_ADDRESSES }).default([]),
    networkKey: f.nullable(f.path('a network key file')).default(null),
    denyList: f.nullable(f.path('a file of peer ids')).default(null),
    http: http.prefault({}),
    checkpointEvery: f.wholeNumber(1, 1_000_000).default(5),
    logLevel: f.oneOf(LOG_LEVELS).default('info')
  })
