import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { PeerRanks } from '../../../src/base/federation.js'
import { seededRng } from '../../../src/base/rng.js'
import type { CodecName } from '../../../src/codec/codec.js'
import type { ExchangeMessage } from '../../../src/codec/wire/messages.js'
import { codecByName } from '../../../src/codec/registry.js'
import { stepExchange } from '../../../src/consensus/exchange/exchange.js'
import { createLayouts } from '../../../src/consensus/rules/layouts.js'
import { mixProducts } from '../../../src/consensus/rules/nested-mixing.js'
import { createSchema, type ParameterSchema } from '../../../src/tensor/schema.js'
import { nestedPart } from '../../../src/tensor/slots.js'
import { machineNetwork } from './machines.js'
import { runs } from '../../counts.js'

/** Slots of the federation. */
const MOST = 5
const schemaOf = (rank: number): ParameterSchema =>
  createSchema([
    { name: 'up.lora_A.weight', shape: [rank, 30] },
    { name: 'up.lora_B.weight', shape: [20, rank] },
    { name: 'up.bias', shape: [7] }
  ])

const random = (size: number, ...seed: (string | number)[]): Float32Array => {
  const rng = seededRng(...seed)
  return Float32Array.from({ length: size }, () => 2 * rng.uniform() - 1)
}

const whole = schemaOf(MOST)
const start = random(whole.size, 'x0')

interface Options {
  readonly rule?: PeerRanks
  readonly codec?: CodecName
  readonly weights?: readonly number[]
}

/** Peers with these numbers of slots, each with a part of the common start and some way from it. */
function network(slots: readonly number[], { rule = 'nested', codec = 'float32', weights }: Options = {}) {
  const layouts = slots.map((count) => {
    const part = nestedPart(whole, schemaOf(count))
    const reference = part.take(start)
    const codecFor = () => codecByName(codec)
    return {
      ...createLayouts({ rule, schema: part.schema, reference, most: MOST, codecFor, scale: 2 }),
      reference,
      schema: part.schema
    }
  })
  return machineNetwork({
    weights: weights ?? slots.map((_, i) => 3 + 2 * i),
    reference: start,
    starts: layouts.map(({ reference }, i) =>
      reference.map((value, k) => value + (random(500, 'away', i)[k] as number) / 3)
    ),
    codec,
    layouts
  })
}

function expectClose(got: ArrayLike<number>, want: ArrayLike<number>, digits = 5): void {
  expect(got.length).toBe(want.length)
  for (let i = 0; i < got.length; i++) expect(got[i]).toBeCloseTo(want[i] as number, digits)
}

const copies = (vectors: readonly Float32Array[]): Float32Array[] => vectors.map((vector) => vector.slice())
const outcomes = (net: ReturnType<typeof network>) =>
  net.log.flatMap(({ effect }) => (effect.type === 'finished' ? [effect.outcome.kind] : []))

/** For every element of the whole layout, the weighted sum over the peers that have it. */
function sums(slots: readonly number[], weights: readonly number[], vectors: readonly Float32Array[]): number[] {
  const total = new Array<number>(whole.size).fill(0)
  slots.forEach((count, i) => {
    nestedPart(whole, schemaOf(count))
      .expand(vectors[i] as Float32Array)
      .forEach((value, k) => {
        total[k] = (total[k] as number) + (weights[i] as number) * value
      })
  })
  return total
}

describe('peers of different ranks', () => {
  it.each([
    [2, 5],
    [5, 2],
    [3, 3]
  ])('of %d and %d slots meet in the weighted mean of those that both have', (a, b) => {
    const net = network([a, b], { weights: [3, 5] })
    const [x, y] = copies(net.parameters)
    net.initiate(0, 1)
    net.drain()
    expect(outcomes(net)).toEqual(['committed', 'committed'])
    const common = schemaOf(Math.min(a, b))
    for (const [index, before] of [x, y].entries()) {
      const part = nestedPart(schemaOf([a, b][index] as number), common)
      const after = net.parameters[index] as Float32Array
      const [p, q] = [
        nestedPart(schemaOf(a), common).take(x as Float32Array),
        nestedPart(schemaOf(b), common).take(y as Float32Array)
      ]
      const mean = p.map((value, i) => (3 * value + 5 * (q[i] as number)) / 8)
      expectClose(part.take(after), mean)
      // What the other has not stays as it was.
      const own = part.expand(part.take(after))
      const old = part.expand(part.take(before as Float32Array))
      expect(after.map((value, i) => value - (own[i] as number))).toEqual(
        before?.map((value, i) => value - (old[i] as number))
      )
    }
  })

  it('send no more than the smaller of the two has', () => {
    const net = network([2, 5])
    net.initiate(1, 0)
    net.drain()
    const sizes = net.carried.flatMap(({ item }) =>
      item.kind === 'send' && item.effect.payload !== undefined ? [item.effect.payload.length] : []
    )
    expect(sizes).toEqual([4 * schemaOf(2).size, 4 * schemaOf(2).size])
  })

  it('keep the weighted mean of every slot over those that have it, whoever meets whom', () => {
    const peers = fc.array(fc.tuple(fc.integer({ min: 1, max: MOST }), fc.integer({ min: 1, max: 9 })), {
      minLength: 2,
      maxLength: 5
    })
    const codecs = fc.constantFrom<CodecName>('float32', 'int8', 'int8-edge', 'topk-edge')
    fc.assert(
      fc.property(peers, codecs, fc.infiniteStream(fc.nat()), (made, codec, choices) => {
        const slots = made.map(([count]) => count)
        const weights = made.map(([, weight]) => weight)
        const net = network(slots, { codec, weights })
        const before = sums(slots, weights, net.parameters)
        const choose = (n: number): number => (choices.next().value as number) % n
        for (let exchange = 0; exchange < 6; exchange++) {
          const from = choose(slots.length)
          net.initiate(from, (from + 1 + choose(slots.length - 1)) % slots.length)
          net.drain()
        }
        const after = sums(slots, weights, net.parameters)
        const drift = Math.max(...after.map((value, i) => Math.abs(value - (before[i] as number))))
        expect(drift).toBeLessThan(1e-4 * weights.reduce((x, y) => x + y))
      }),
      { numRuns: runs(25) }
    )
  })

  it('in product space, come to what the pure rule says of what both have decoded', () => {
    const net = network([2, 4], { rule: 'product', weights: [3, 5] })
    const [x, y] = copies(net.parameters)
    net.initiate(0, 1)
    net.drain()
    expect(outcomes(net)).toEqual(['committed', 'committed'])
    const [one, other] = [
      { vector: x as Float32Array, schema: schemaOf(2) },
      { vector: y as Float32Array, schema: schemaOf(4) }
    ]
    const first = mixProducts(one, other, 5 / 8).increment
    const second = mixProducts(other, one, 3 / 8).increment
    expectClose(
      net.parameters[0] ?? [],
      one.vector.map((value, i) => value + (first[i] as number)),
      4
    )
    expectClose(
      net.parameters[1] ?? [],
      other.vector.map((value, i) => value + (second[i] as number)),
      4
    )
  })

  it('of one rank average factors in a federation of products, too', () => {
    const net = network([4, 4], { rule: 'product', weights: [1, 1] })
    const [x, y] = copies(net.parameters)
    net.initiate(0, 1)
    net.drain()
    expectClose(net.parameters[0] ?? [], x?.map((value, i) => (value + (y?.[i] as number)) / 2) ?? [])
  })

  it('go on with a codec that remembers, also with a partner that comes back with another rank', () => {
    const net = network([3, 5], { codec: 'int8-edge' })
    for (let exchange = 0; exchange < 3; exchange++) {
      net.initiate(exchange % 2, 1 - (exchange % 2))
      net.drain()
    }
    expect(net.states[1]?.edges.get('peer-0')?.memory.own).toHaveLength(schemaOf(3).size)
    // Peer 0 again, after a restart with four slots: what it was told of three is of no use.
    const part = nestedPart(whole, schemaOf(4))
    const other = network([4, 5], { codec: 'int8-edge' })
    Object.assign(other.states, { 1: net.states[1] })
    other.initiate(1, 0)
    other.drain()
    expect(outcomes(other)).toEqual(['committed', 'committed'])
    expect(other.states[1]?.edges.get('peer-0')?.memory.own).toHaveLength(part.schema.size)
  })
})

describe('a peer that lies about its rank', () => {
  const net = network([3, 5])
  const [config, state] = [net.configs[1], net.states[1]]
  const hello = {
    type: 'hello',
    exchangeId: '1'.repeat(32),
    federation: config?.federation,
    schema: schemaOf(3).hash,
    phase: 'training',
    weight: 5,
    codec: 'float32',
    gamma: 1,
    slots: 3
  }
  const answer = (changes: object) => {
    if (config === undefined || state === undefined) throw new Error('no such machine')
    const message = { ...hello, ...changes } as ExchangeMessage
    const local = { parameters: net.parameters[1] as Float32Array, phase: 'training' } as const
    const [, effects] = stepExchange({ config, local }, state, { type: 'message', link: 1, peer: 'peer-0', message })
    return effects.flatMap((effect) => (effect.type === 'send' ? [effect.message] : []))
  }

  it('is accepted where it does not', () => {
    expect(answer({})).toMatchObject([{ type: 'accept', slots: 5, payload: { sizeBytes: 4 * schemaOf(3).size } }])
  })

  it.each([
    ['more than there are', { slots: MOST + 1, schema: schemaOf(MOST + 1).hash }],
    ['none', { slots: 0 }],
    ['a part of one', { slots: 2.5 }],
    ['very many', { slots: 4_294_967_295 }],
    ['none named', { slots: undefined }],
    ['others than its schema has', { slots: 2 }],
    ['a schema of something else', { schema: '7'.repeat(64) }]
  ])('is refused: %s', (_, changes) => {
    expect(answer(changes)).toMatchObject([{ type: 'refuse', code: 'other-schema' }])
  })

  it.each([
    ['more than there are', { slots: MOST + 1 }],
    ['none named', { slots: undefined }],
    ['others than it codes', { slots: 2 }]
  ])('is refused as a responder: %s', (_, changes) => {
    const liar = network([3, 5])
    const before = liar.parameters[0]?.slice()
    const link = liar.initiate(0, 1)
    liar.deliver(link, 1)
    const [item] = liar.queued(link, 0)
    if (item?.kind !== 'send') throw new Error('no answer')
    const message = { ...item.effect.message, ...changes } as ExchangeMessage
    liar.inject(link, 0, { kind: 'send', effect: { ...item.effect, message } })
    liar.drain()
    expect(liar.log.find(({ machine, effect }) => machine === 0 && effect.type === 'penalise')).toBeDefined()
    expect(liar.parameters[0]).toEqual(before)
  })
})
