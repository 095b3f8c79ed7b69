import { createHash } from 'node:crypto'
import { seededRng } from '../../../src/base/rng.js'
import { int4Coder } from '../../../src/codec/coders/int4.js'
import type { Update, UpdateFields } from '../../../src/codec/wire/update.js'
import { encodeUpdateBody, readUpdate } from '../../../src/codec/wire/update-frame.js'
import { mostUpdateBytes } from '../../../src/consensus/broadcast/broadcast.js'
import type { BroadcastConfig } from '../../../src/consensus/broadcast/types.js'
import {
  type Broadcaster,
  createBroadcaster,
  type SavedBroadcast
} from '../../../src/consensus/broadcast/broadcaster.js'
import type { ResumeAt } from '../../../src/consensus/broadcast/pseudo-gradient.js'
import { answerTo, digestOf } from '../../../src/consensus/broadcast/sync.js'

export const SIZE = 40
const FEDERATION = 'f'.repeat(64)
const SCHEMA = '5'.repeat(64)

/** Dense, for speed: what is sparse is the codec's affair. */
const codec = int4Coder('nearest')

export const configOf = (self: string, changes: Partial<BroadcastConfig> = {}): BroadcastConfig => ({
  self,
  federation: FEDERATION,
  schemaHash: SCHEMA,
  rule: { codec, size: SIZE, outerStep: 3, maxStep: 0.5, maxNorm: 2 },
  maxAuthors: 16,
  ...changes
})

/** No signature, but as long as one and different for every body; who checks signatures is not under test here. */
export const fakeSign = (body: Uint8Array): Uint8Array => Uint8Array.from(createHash('sha512').update(body).digest())

export const reference = Float32Array.from({ length: SIZE }, (_, i) => Math.sin(i))

export function broadcasterOf(
  self: string,
  {
    saved,
    resumeAt,
    ...changes
  }: Partial<BroadcastConfig> & {
    readonly saved?: SavedBroadcast
    readonly resumeAt?: ResumeAt
  } = {}
): Broadcaster & { readonly live: Float32Array } {
  const live = reference.slice()
  const parts = {
    reference,
    live,
    decay: 0.95,
    sign: fakeSign,
    rng: seededRng('test', self),
    ...(saved && { saved }),
    ...(resumeAt && { resumeAt })
  }
  const broadcaster = createBroadcaster({ config: configOf(self, changes), ...parts })
  broadcaster.onReplica()
  return { ...broadcaster, live }
}

/** An update as any author could write it: also one that no honest author would. */
export function written(
  fields: Partial<UpdateFields> & Pick<UpdateFields, 'author' | 'sequence' | 'previous'>
): Update {
  const rng = seededRng('payload', fields.author, fields.sequence, fields.previous, String(fields.samples))
  const vector = Float32Array.from({ length: SIZE }, () => rng.uniform() - 0.5)
  const whole: UpdateFields = {
    federation: FEDERATION,
    schema: SCHEMA,
    samples: 70,
    totalSamples: 300,
    payload: codec.encode(vector, rng),
    ...fields
  }
  const body = encodeUpdateBody(whole)
  const update = readUpdate({ body, signature: fakeSign(body) }, mostUpdateBytes(configOf('x')))
  if (!update.ok) throw new Error(JSON.stringify(update.verdict))
  return update.value
}

/** Both tell each other what they have, as over a stream. Returns how many updates and proofs went over. */
export function synchronise(a: Broadcaster, b: Broadcaster, names: readonly [string, string], maxBytes = 1e9): number {
  const config = configOf(names[0])
  const [ofA, ofB] = [digestOf(config, a.state()), digestOf(config, b.state())]
  const answers = [answerTo(a.state(), ofB, maxBytes), answerTo(b.state(), ofA, maxBytes)] as const
  let told = 0
  for (const [to, from, answer] of [
    [b, names[0], answers[0]],
    [a, names[1], answers[1]]
  ] as const) {
    for (const pair of answer.evidence) to.dispatch({ type: 'evidence', pair, from })
    for (const update of answer.updates) to.dispatch({ type: 'update', update, from })
    told += answer.evidence.length + answer.updates.length
  }
  return told
}
