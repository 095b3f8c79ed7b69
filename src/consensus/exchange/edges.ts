import { sha256Hex } from '../../base/bytes.js'
import type { EdgeMemory, VectorCodec } from '../../codec/codec.js'
import { statelessCoding } from '../../codec/coders/edge.js'
import type { EdgeReference, ExchangeId } from '../../codec/wire/messages.js'
import type { PeerId } from '../peer-id.js'

/**
 * Partners whose edge is kept: twice the local a node draws its partners from. With any other partner the next exchange
 * starts from the common start again, which costs a few exchanges of precision and nothing else.
 */
export const MAX_EDGES = 16

/** Bytes of all edges together, 512 MiB: 16 partners at 4 million parameters, 3 at 20 million. At least one is kept. */
export const MAX_EDGES_BYTES = 512 * 1024 * 1024

/** The part of an exchange's configuration that edges are about. */
export interface EdgeConfig {
  readonly codec: VectorCodec
  readonly schema: { readonly size: number }
  /** The common start, float32[schema.size]. */
  readonly reference: Float32Array
}

/** What an edge-coding exchange starts from, the same on both ends. */
export interface Edge {
  readonly reference: EdgeReference
  readonly memory: EdgeMemory
}

/** By partner, the one used last at the end. Not in checkpoints: after a restart every edge begins anew. */
export type Edges = ReadonlyMap<PeerId, Edge>

export const noEdges: Edges = new Map()

export const sameReference = (a: EdgeReference | undefined, b: EdgeReference | undefined): boolean =>
  a?.hash === b?.hash && a?.sequence === b?.sequence

/** Edges that fit into MAX_EDGES and MAX_EDGES_BYTES. */
export function mostEdges({ codec, schema }: EdgeConfig): number {
  const elements = codec.edge?.memoryElements(schema.size) ?? 0
  return Math.max(1, Math.min(MAX_EDGES, Math.floor(MAX_EDGES_BYTES / Math.max(1, 4 * elements))))
}

/** How this codec codes on an edge; one without memory codes from the start, always. */
export const codingOf = (codec: VectorCodec) => codec.edge ?? statelessCoding(codec)

/** What a vector is coded against: an edge, or without one the common start. */
export interface Coding<Config extends EdgeConfig = EdgeConfig> {
  readonly config: Config
  readonly edge: Edge | undefined
}

export const memoryOf = ({ config, edge }: Coding): EdgeMemory =>
  edge?.memory ?? codingOf(config.codec).begin(config.reference)

/** What one exchange adds to an edge. */
export interface EdgeStep {
  readonly exchangeId: ExchangeId
  /** Lower-case hexadecimal SHA-256 of the two payloads. */
  readonly initiatorSha256: string
  readonly responderSha256: string
  readonly own: Float32Array
  readonly partner: Float32Array
}

/**
 * The edge as it will be once the exchange is committed; absent for codecs without memory. Its reference hashes the one
 * before with the exchange and both payloads, so that two ends that name the same one hold the same bits.
 */
export function edgeAfter(before: Coding, step: EdgeStep): Edge | undefined {
  const { edge: coding } = before.config.codec
  if (coding === undefined) return undefined
  const { exchangeId, initiatorSha256, responderSha256, own, partner } = step
  const { hash = '', sequence = 0 } = before.edge?.reference ?? {}
  return {
    reference: {
      hash: sha256Hex(JSON.stringify([hash, exchangeId, initiatorSha256, responderSha256])),
      sequence: sequence + 1
    },
    memory: coding.next(memoryOf(before), own, partner)
  }
}
