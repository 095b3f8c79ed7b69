import type { Clock } from '../base/clock.js'
import type { FederationManifest } from '../base/federation.js'
import type { Logger } from '../base/log.js'
import type { Libp2pTransport } from '../gossip/libp2p/libp2p.js'
import type { NodeConfig } from './config/schema.js'
import type { DataDir } from './host/data-dir.js'
import type { Identity } from './host/identity.js'
import type { RefusalBook } from './peers/refusal-book.js'

/** The parts of a node, each made once. */
export interface Wiring {
  readonly config: NodeConfig
  readonly manifest: FederationManifest
  readonly federation: string
  readonly identity: Identity
  readonly dataDir: DataDir
  readonly transport: Libp2pTransport
  readonly refusals: RefusalBook
  readonly version: string
  readonly clock: Clock
  readonly log: Logger
}
