import type { Rng } from '../../../src/base/rng.js'
import type { CodecContext, CodecName } from '../../../src/codec/codec.js'
import { codecByName } from '../../../src/codec/registry.js'
import type { DistanceMeasure } from '../../../src/consensus/rules/distance.js'
import { initialExchangeState, stepExchange } from '../../../src/consensus/exchange/exchange.js'
import type {
  ExchangeConfig,
  ExchangeEffect,
  ExchangeEvent,
  ExchangeState,
  LinkId,
  LocalState
} from '../../../src/consensus/exchange/types.js'
import type { Layouts } from '../../../src/consensus/rules/layouts.js'
import { addInto } from '../../../src/tensor/linear.js'

type Item = { readonly kind: 'send'; readonly effect: ExchangeEffect & { type: 'send' } } | { readonly kind: 'end' }

interface Link {
  readonly ends: readonly [number, number]
  /** queues[0] is on its way to ends[0]. */
  readonly queues: [Item[], Item[]]
  /** Whether each end still listens. */
  readonly listening: [boolean, boolean]
}

export interface MachineOptions {
  readonly weights: readonly number[]
  readonly reference: Float32Array
  readonly starts: readonly Float32Array[]
  readonly codec?: CodecName
  readonly context?: CodecContext
  readonly gamma?: number
  readonly clip?: number
  readonly measure?: DistanceMeasure
  readonly more?: Partial<ExchangeConfig>
  /** Peers that differ in more than weight and name. */
  readonly layouts?: readonly (Layouts & Pick<ExchangeConfig, 'schema' | 'reference'>)[]
}

export const machineConfig = (index: number, options: MachineOptions): ExchangeConfig => ({
  self: `peer-${index}`,
  federation: 'f'.repeat(64),
  schema: { hash: '5'.repeat(64), size: options.reference.length },
  reference: options.reference,
  codec: codecByName(options.codec ?? 'int8', options.context),
  gamma: options.gamma ?? 1,
  weight: options.weights[index]!,
  incarnation: `life-${index}`,
  ...layoutFields(options.layouts?.[index]),
  ...(options.clip === undefined ? {} : { clip: options.clip }),
  ...(options.measure === undefined ? {} : { measure: options.measure }),
  ...options.more
})

const layoutFields = (layouts: (Layouts & Pick<ExchangeConfig, 'schema' | 'reference'>) | undefined) =>
  layouts === undefined ? {} : { layouts, schema: layouts.schema, reference: layouts.reference }

/**
 * Pure machines joined by links that deliver in any order between links, in order on a link, can be cut anywhere and
 * repeat what they carried. Nothing here runs by itself: the test chooses every event.
 */
export function machineNetwork(options: MachineOptions) {
  const configs = options.weights.map((_, index) => machineConfig(index, options))
  const states: ExchangeState[] = configs.map(() => initialExchangeState())
  const parameters = options.starts.map((start) => start.slice())
  const links = new Map<LinkId, Link>()
  /** Effects other than sends, in the order they came, with the machine they came from. */
  const log: { readonly machine: number; readonly effect: ExchangeEffect }[] = []
  const carried: { readonly to: number; readonly from: number; readonly item: Item }[] = []
  /** Local steps and neighbours of each machine, for the test to set. */
  const places: Pick<LocalState, 'step' | 'degree'>[] = configs.map(() => ({}))
  let nextLink = 1

  const indexOf = (peer: string): number => configs.findIndex((config) => config.self === peer)

  function perform(machine: number, effect: ExchangeEffect): void {
    if (effect.type !== 'send') log.push({ machine, effect })
    if (effect.type === 'apply') addInto(effect.increment, parameters[machine]!)
    if (effect.type !== 'send' && effect.type !== 'close') return
    const link = links.get(effect.link)!
    const side = link.ends[0] === machine ? 0 : 1
    const other = side === 0 ? 1 : 0
    if (!link.listening[side]) return
    if (effect.type === 'close') link.listening[side] = false
    link.queues[other].push(effect.type === 'close' ? { kind: 'end' } : { kind: 'send', effect })
  }

  function dispatch(machine: number, event: ExchangeEvent): void {
    const local = { ...places[machine], parameters: parameters[machine]!, phase: 'training' as const }
    const [state, effects] = stepExchange({ config: configs[machine]!, local }, states[machine]!, event)
    states[machine] = state
    for (const effect of effects) perform(machine, effect)
  }

  function deliver(linkId: LinkId, side: 0 | 1): void {
    const link = links.get(linkId)!
    const item = link.queues[side].shift()
    if (item === undefined || !link.listening[side]) return
    const machine = link.ends[side]
    const from = link.ends[side === 0 ? 1 : 0]
    const peer = configs[from]!.self
    if (item.kind === 'end') {
      link.listening[side] = false
      return dispatch(machine, { type: 'broken', link: linkId, peer })
    }
    carried.push({ to: machine, from, item })
    const { message, payload } = item.effect
    dispatch(machine, { type: 'message', link: linkId, peer, message, ...(payload === undefined ? {} : { payload }) })
  }

  return {
    configs,
    states,
    parameters,
    places,
    log,
    indexOf,

    initiate(from: number, to: number): LinkId {
      const link = nextLink++
      links.set(link, { ends: [from, to], queues: [[], []], listening: [true, true] })
      dispatch(from, { type: 'initiate', link, peer: configs[to]!.self })
      return link
    },

    deliver,

    /** Everything that was delivered to a machine, in order. */
    carried,

    /** What is on its way to one end of a link. */
    queued: (linkId: LinkId, side: 0 | 1): readonly Item[] => [...links.get(linkId)!.queues[side]],

    /** Puts something on its way that has been there before. */
    inject: (linkId: LinkId, side: 0 | 1, item: Item): void => void links.get(linkId)!.queues[side].unshift(item),

    /** Where something waits to be delivered. */
    pending(): [LinkId, 0 | 1][] {
      const waiting: [LinkId, 0 | 1][] = []
      for (const [id, { queues }] of links) {
        if (queues[0].length > 0) waiting.push([id, 0])
        if (queues[1].length > 0) waiting.push([id, 1])
      }
      return waiting
    },

    /** Breaks a link; a prefix of what was on its way still arrives. */
    cut(linkId: LinkId, rng: Rng): void {
      const link = links.get(linkId)!
      for (const side of [0, 1] as const) {
        link.queues[side].splice(rng.integer(link.queues[side].length + 1))
        link.queues[side].push({ kind: 'end' })
      }
    },

    /** Sends something a second time, on any link between the same two. */
    replay(rng: Rng): void {
      const again = carried[rng.integer(Math.max(1, carried.length))]
      if (again === undefined) return
      for (const link of links.values()) {
        const side = link.ends.indexOf(again.to)
        if (side < 0 || !link.ends.includes(again.from)) continue
        if (rng.integer(2) === 0) link.queues[side as 0 | 1].push(again.item)
      }
    },

    openLinks: (): LinkId[] =>
      [...links].filter(([, link]) => link.listening[0] || link.listening[1]).map(([id]) => id),

    drain(rng?: Rng): void {
      for (let waiting = this.pending(); waiting.length > 0; waiting = this.pending()) {
        const [link, side] = waiting[rng === undefined ? 0 : rng.integer(waiting.length)]!
        deliver(link, side)
      }
    },

    /** Cuts everything, then lets every machine in doubt meet the peer it is in doubt with. */
    heal(rng: Rng): void {
      for (const link of this.openLinks()) this.cut(link, rng)
      this.drain(rng)
      states.forEach((_, machine) => {
        for (const { peer } of states[machine]!.journal.inDoubt) {
          this.initiate(machine, indexOf(peer))
          this.drain(rng)
        }
      })
    }
  }
}

export type MachineNetwork = ReturnType<typeof machineNetwork>
