import { create, toBinary } from '@bufbuild/protobuf'
import type { Decoded } from '../../base/verdict.js'
import type { CodecVerdictCode } from '../codec.js'
import type { PayloadHeader, Phase, RefusalCode } from './messages.js'
import { StateReplySchema, StateRequestSchema } from './peertune_pb.js'
import { codecField, MAX_MESSAGE_BYTES, payloadFromWire, payloadToWire, phases, refusals } from './wire.js'
import {
  countField,
  type Grounds,
  groundsFromWire,
  groundsToWire,
  readingFrame,
  requireField,
  requireFits,
  Unreadable,
  WIRE_VERSION
} from './fields.js'

/** May I read your parameters? */
export interface StateRequest extends Grounds {
  /** Only how far you are. */
  readonly placeOnly: boolean
}

/** How far a peer says it is. */
export interface Place {
  readonly phase: Phase
  /** Training examples behind it. */
  readonly weight: number
  /** Local optimiser steps taken. */
  readonly step: number
}

/** What the sender has learned so far; the payload follows in raw chunks. */
export interface StateHeader extends Place {
  /** One without memory, against the common start. */
  readonly codec: string
  readonly payload: PayloadHeader
}

export type StateReply =
  | { readonly type: 'state'; readonly state: StateHeader }
  | { readonly type: 'place'; readonly place: Place }
  | { readonly type: 'refuse'; readonly code: RefusalCode }

export const encodeStateRequest = ({ federation, schema, placeOnly }: StateRequest): Uint8Array =>
  requireFits(
    toBinary(
      StateRequestSchema,
      create(StateRequestSchema, {
        version: WIRE_VERSION,
        ...groundsToWire({ federation, schema }),
        placeOnly
      })
    ),
    MAX_MESSAGE_BYTES
  )

/** Never throws for what a peer sent. */
export const decodeStateRequest = (bytes: Uint8Array): Decoded<StateRequest, CodecVerdictCode> =>
  readingFrame({ schema: StateRequestSchema, maxBytes: MAX_MESSAGE_BYTES }, bytes, (frame) => ({
    ...groundsFromWire(frame),
    placeOnly: frame.placeOnly
  }))

export function encodeStateReply(reply: StateReply): Uint8Array {
  const body =
    reply.type === 'refuse'
      ? ({ case: 'refuse', value: { code: refusals.code(reply.code) } } as const)
      : ({
          case: 'state',
          value: reply.type === 'state' ? stateToWire(reply.state) : placeToWire(reply.place)
        } as const)
  return requireFits(
    toBinary(StateReplySchema, create(StateReplySchema, { version: WIRE_VERSION, body })),
    MAX_MESSAGE_BYTES
  )
}

const placeToWire = ({ phase, weight, step }: Place) => ({ phase: phases.code(phase), weight, step: BigInt(step) })

const stateToWire = ({ codec, payload, ...place }: StateHeader) => ({
  ...placeToWire(place),
  codec,
  payload: payloadToWire(payload)
})

/** Never throws for what a peer sent. */
export const decodeStateReply = (bytes: Uint8Array): Decoded<StateReply, CodecVerdictCode> =>
  readingFrame({ schema: StateReplySchema, maxBytes: MAX_MESSAGE_BYTES }, bytes, ({ body }): StateReply => {
    if (body.case === 'refuse') return { type: 'refuse', code: refusals.name(body.value.code) ?? 'unspecified' }
    if (body.case !== 'state') throw new Unreadable('a reply of no known type')
    const { phase, weight, step, codec, payload } = body.value
    const codecName = codecField(codec)
    const place = { phase: requireField(phases.name(phase), 'phase'), weight, step: countField(step, 'step') }
    if (payload === undefined) return { type: 'place', place }
    return { type: 'state', state: { ...place, codec: codecName, payload: payloadFromWire(payload) } }
  })
