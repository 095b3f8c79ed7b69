import { keepLatest } from '../keep-latest.js'
import { type Edge, type EdgeStep, mostEdges } from './edges.js'
import type { MixScene } from './encoded-side.js'
import type { InDoubt } from './journal.js'
import { hasRadius, ownTerms, paceOf } from './step-agreement.js'
import { ask, type Working } from './tasks.js'
import type { Turn } from './turn.js'
import type { ExchangeState, Standpoint, Terms } from './types.js'
import { noteDistance } from '../rules/radius.js'
import { noteState } from '../rules/robust-rule.js'

/** What a committed exchange leaves behind besides its increment: the edge moves with it and never without. */
export function withExchange(
  here: Standpoint,
  state: ExchangeState,
  { peer, leaves = {}, observed }: Pick<InDoubt, 'peer' | 'leaves' | 'observed'>
): ExchangeState {
  const { edge, seen, outer } = leaves
  const { config } = here
  const pace = paceOf(here)
  return {
    ...state,
    edges: edge === undefined ? state.edges : keepLatest(state.edges, [peer, edge], mostEdges(config)),
    distances: observed === undefined ? state.distances : noteDistance(state.distances, { peer, ...observed }, pace),
    recent:
      seen === undefined ? state.recent : noteState(config, state.recent, [peer, { vector: seen, atStep: pace.step }]),
    ...(outer === undefined ? {} : { outer })
  }
}

/** What we announce in HELLO or ACCEPT. */
export function* termsNow(here: Standpoint, state: ExchangeState): Working<Terms> {
  const { config, local } = here
  const distanceFromStart = hasRadius(config)
    ? yield* ask({ task: 'distance-from-start', parameters: local.parameters })
    : 0
  return ownTerms(here, state, distanceFromStart)
}

/** What of the state and the moment an exchange's arithmetic depends on. */
export const sceneOf = (turn: Turn, { recent, losses, outer }: ExchangeState): MixScene => ({
  peer: turn.peer,
  recent,
  step: paceOf(turn).step,
  ...(losses === undefined ? {} : { losses }),
  ...(outer === undefined ? {} : { outer })
})

/** The edge as it will be once the exchange is committed; absent for codecs without memory. */
export function* edgeNow(
  { config }: Turn,
  edge: Edge | undefined,
  { slots, ...step }: EdgeStep & { readonly slots: number | undefined }
): Working<Edge | undefined> {
  return config.codec.edge === undefined ? undefined : yield* ask({ task: 'edge', slots, edge, step })
}
