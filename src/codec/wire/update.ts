/** Lower-case hexadecimal SHA-256 of the body an author has signed: an update's name by its content. */
export type UpdateHash = string

/** What the first update of an author names as the one before it. */
export const GENESIS: UpdateHash = '0'.repeat(64)

/** An update as it is kept and passed on: the very bytes its author has signed. */
export interface SignedUpdate {
  readonly body: Uint8Array
  /** Ed25519 over `body`. */
  readonly signature: Uint8Array
}

/** What an author says in an update. */
export interface UpdateFields {
  /** Hash of the federation manifest, hexadecimal. */
  readonly federation: string
  /** Hash of the parameter schema, hexadecimal. */
  readonly schema: string
  /** Base58 peer id. */
  readonly author: string
  /** From 1, without gaps. */
  readonly sequence: number
  /** Hash of the author's update before this one; GENESIS for the first. */
  readonly previous: UpdateHash
  /** Training examples of the author. */
  readonly samples: number
  /** Training examples of the whole federation, as the author knows it. */
  readonly totalSamples: number
  /** The sparse pseudo-gradient, as the federation's codec has it. */
  readonly payload: Uint8Array
}

/** A decoded update; whether the signature is the author's is for its reader to check. */
export interface Update extends UpdateFields, SignedUpdate {
  readonly hash: UpdateHash
}

/** Announces an update that is too large for pubsub. */
export interface UpdateNotice {
  readonly federation: string
  readonly sequence: number
  readonly hash: UpdateHash
  readonly sizeBytes: number
}

/** One author's updates, as far as somebody has them. */
export interface Head {
  readonly author: string
  /** Counted up to here; 0: nothing yet. */
  readonly sequence: number
  /** Of the last one counted; GENESIS before the first. */
  readonly hash: UpdateHash
  /** Updates up to here can no longer be given away one by one. */
  readonly base: number
  /** The author has signed two updates with this number: nothing behind it counts, and of the two the one with this hash. */
  readonly stop?: { readonly sequence: number; readonly hash: UpdateHash }
}

/** An update somebody looks for, by its content. */
export interface Want {
  readonly author: string
  readonly sequence: number
  readonly hash: UpdateHash
}

/** What one side of a stream has and looks for. */
export interface Digest {
  readonly federation: string
  readonly schema: string
  readonly heads: readonly Head[]
  readonly wants: readonly Want[]
}
