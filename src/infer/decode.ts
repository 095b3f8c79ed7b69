/** Logits of the token that follows `ids`: float32[vocabulary]. */
export type NextLogits = (ids: Int32Array) => Promise<Float32Array>

export interface DecodeOptions {
  readonly nextLogits: NextLogits
  readonly choose: (logits: Float32Array) => number
  readonly maxTokens: number
  /** Tokens that end a text and are not part of it. */
  readonly stopTokens: ReadonlySet<number>
  /** Positions of the model, prompt included. */
  readonly context: number
}

/** Why a text ended: a stop token, as many tokens as were asked for, or no position left. */
export type StopReason = 'stop token' | 'length' | 'context'

/** Tokens one by one, each chosen in view of all before it; returns why it ended. */
export async function* decode(
  prompt: Int32Array,
  { nextLogits, choose, maxTokens, stopTokens, context }: DecodeOptions
): AsyncGenerator<number, StopReason> {
  let ids = prompt
  for (let count = 0; count < maxTokens; count++) {
    if (ids.length > context) return 'context'
    const id = choose(await nextLogits(ids))
    if (stopTokens.has(id)) return 'stop token'
    yield id
    ids = Int32Array.of(...ids, id)
  }
  return 'length'
}
