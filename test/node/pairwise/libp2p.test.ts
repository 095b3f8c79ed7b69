import { afterAll, describe, expect, it } from 'vitest'
import { systemClock } from '../../../src/base/clock.js'
import { seededRng } from '../../../src/base/rng.js'
import { codecByName } from '../../../src/codec/registry.js'
import { PAYLOAD_CHUNK_BYTES } from '../../../src/codec/wire/payload.js'
import { EXCHANGE_PROTOCOL } from '../../../src/gossip/topics.js'
import type { Transport } from '../../../src/gossip/transport.js'
import { createExchangeDriver } from '../../../src/node/pairwise/driver.js'
import { addInto, distance2, weightedMean } from '../../../src/tensor/linear.js'
import { connect, libp2pWorld } from '../../gossip/worlds.js'

/** Several chunks in int8. */
const SIZE = 2 * PAYLOAD_CHUNK_BYTES + 1000
const world = libp2pWorld()
afterAll(() => world.dispose())

const vector = (scale: number, seed: string): Float32Array => {
  const rng = seededRng('libp2p-exchange', seed)
  return Float32Array.from({ length: SIZE }, () => scale * (rng.uniform() - 0.5))
}

const reference = vector(2, 'x0')

function member(transport: Transport, weight: number) {
  const away = vector(1, transport.self)
  const live = reference.map((value, i) => value + away[i]!)
  const verdicts: string[] = []
  const driver = createExchangeDriver(
    {
      transport,
      clock: systemClock,
      holder: { parameters: () => live, add: (increment) => addInto(increment, live) },
      phase: () => 'training',
      onVerdict: (_, verdict) => verdicts.push('code' in verdict ? verdict.code : '')
    },
    {
      config: {
        self: transport.self,
        federation: 'f'.repeat(64),
        schema: { hash: '5'.repeat(64), size: SIZE },
        reference,
        codec: codecByName('int8'),
        gamma: 1,
        weight,
        incarnation: transport.self
      }
    }
  )
  driver.start()
  return { live, weight, driver, verdicts, transport }
}

describe('exchanges over libp2p', () => {
  it('of half a million parameters, in both directions and from both sides at once, keep the mean', async () => {
    const [a, b] = [member(await world.create(), 3), member(await world.create(), 5)]
    expect(await connect(a.transport, b.transport)).toMatchObject({ ok: true })
    const mean = () => weightedMean([a.live, b.live], [3, 5])
    const [before, apart] = [mean(), distance2(a.live, b.live)]
    expect(await a.driver.exchangeWith(b.transport.self)).toEqual({ kind: 'committed' })
    expect(await b.driver.exchangeWith(a.transport.self)).toEqual({ kind: 'committed' })
    const outcomes = await Promise.all([
      a.driver.exchangeWith(b.transport.self),
      b.driver.exchangeWith(a.transport.self)
    ])
    expect(outcomes.map(({ kind }) => kind)).toContain('committed')
    const after = mean()
    const moved = before.reduce((most, value, i) => Math.max(most, Math.abs(value - after[i]!)), 0)
    expect(moved).toBeLessThan(1e-6)
    expect(distance2(a.live, b.live) / apart).toBeLessThan(0.02)
    expect([a.verdicts, b.verdicts]).toEqual([[], []])
  })

  it('with a frame too large end with a verdict, and the node goes on', async () => {
    const [a, b, mallory] = [member(await world.create(), 3), member(await world.create(), 5), await world.create()]
    await connect(a.transport, b.transport)
    await connect(mallory, a.transport)
    const channel = await mallory.open(a.transport.self, EXCHANGE_PROTOCOL)
    await channel.send(new Uint8Array(100_000)).catch(() => undefined)
    await expect.poll(() => a.verdicts).toEqual(['codec/too-large'])
    expect(await a.driver.exchangeWith(b.transport.self)).toEqual({ kind: 'committed' })
  })
})
