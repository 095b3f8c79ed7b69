import { sha256Hex } from '../../base/bytes.js'
import { seededRng } from '../../base/rng.js'
import { type Decoded, decoded, refused, reject } from '../../base/verdict.js'
import type { VectorCodec } from '../../codec/codec.js'
import { payloadHeader } from '../../codec/wire/payload.js'
import { codecByName } from '../../codec/registry.js'
import type { Place, StateHeader } from '../../codec/wire/state.js'
import { allFinite, subtract } from '../../tensor/linear.js'
import type { ExchangeConfig } from '../exchange/types.js'
import type { PeerId } from '../peer-id.js'
import { staysSendable } from '../exchange/encoded-side.js'
import { isSaneWeight } from '../weight.js'

/** What a peer says it has learned; nothing of it is proved. */
export interface PeerState extends Place {
  /** float32[schema.size], finite. */
  readonly vector: Float32Array
}

/** Codecs good enough to start from, without a memory: who asks has none. */
const STATE_CODECS: readonly string[] = ['float32', 'float16', 'int8']

/** The federation's own codec where it is one of these, else int8. */
export const stateCodec = ({ codec }: Pick<ExchangeConfig, 'codec'>): VectorCodec =>
  STATE_CODECS.includes(codec.name) ? codec : codecByName('int8')

export interface OwnState {
  readonly config: Pick<ExchangeConfig, 'codec' | 'reference' | 'incarnation'>
  /** float32[n]. */
  readonly parameters: Float32Array
  readonly place: Place
  readonly peer: PeerId
  /** States given before. */
  readonly count: number
}

/** Our parameters for somebody who asks. */
export function stateFor({ config, parameters, place, peer, count }: OwnState): {
  readonly state: StateHeader
  readonly payload: Uint8Array
} {
  const codec = stateCodec(config)
  const rng = seededRng('state', config.incarnation, peer, count)
  const payload = codec.encode(subtract(parameters, config.reference), rng)
  return { state: { ...place, codec: codec.name, payload: payloadHeader(payload) }, payload }
}

type Asker = Pick<ExchangeConfig, 'codec' | 'schema' | 'reference'>

/** Is what somebody is about to send a state that we can read? Before anything is allocated for it. */
export function stateHeaderVerdict(config: Asker, { codec, weight }: StateHeader) {
  if (codec !== stateCodec(config).name) return reject('state/other-codec', codec)
  return isSaneWeight(weight) ? undefined : reject('state/absurd-weight', String(weight))
}

/** What somebody has sent, whole. */
export function stateFrom(
  config: Asker,
  { payload: header, codec: _, ...place }: StateHeader,
  payload: Uint8Array
): Decoded<PeerState, string> {
  const { schema, reference } = config
  if (sha256Hex(payload) !== header.sha256) return refused(reject('codec/bad-checksum'))
  const away = stateCodec(config).decode(payload, schema.size)
  if (!away.ok) return away
  const vector = away.value.map((value, i) => value + reference[i]!)
  if (!allFinite(vector)) return refused(reject('codec/not-finite'))
  if (!staysSendable(config, reference, away.value))
    return refused(reject('codec/not-finite', 'the state is where nothing can be sent from'))
  return decoded({ ...place, vector })
}
