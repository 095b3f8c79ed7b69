import { describe, expect, it } from 'vitest'
import { systemClock } from '../../../src/base/clock.js'
import { silentLogger } from '../../../src/base/log.js'
import { seededRng } from '../../../src/base/rng.js'
import { float32Codec } from '../../../src/codec/coders/float32.js'
import { GENESIS, type Update } from '../../../src/codec/wire/update.js'
import { encodeSyncHeader } from '../../../src/codec/wire/sync.js'
import { encodeSigned, encodeUpdateBody, encodeUpdateFrame, readUpdate } from '../../../src/codec/wire/update-frame.js'
import type { BroadcastConfig } from '../../../src/consensus/broadcast/types.js'
import { createBroadcaster } from '../../../src/consensus/broadcast/broadcaster.js'
import { createMemoryNetwork } from '../../../src/gossip/memory/memory.js'
import { announceTopic, SYNC_PROTOCOL, updatesTopic } from '../../../src/gossip/topics.js'
import { createBroadcastDriver } from '../../../src/node/broadcast/driver.js'
import { simSign, simVerify } from '../../../src/sim/world/broadcast-signature.js'
import { until } from '../pairwise/participant-world.js'

const FEDERATION = 'f'.repeat(64)
const SCHEMA = '5'.repeat(64)

/** Drivers on an in-memory network. Large: an update does not fit into pubsub. */
function world(size = 20) {
  const network = createMemoryNetwork({ seed: 'broadcast', clock: systemClock })
  async function member(name: string) {
    const transport = network.join({ name })
    await transport.start()
    const reference = Float32Array.from({ length: size }, (_, i) => Math.sin(i))
    const live = reference.slice()
    const verdicts: string[] = []
    const config: BroadcastConfig = {
      self: name,
      federation: FEDERATION,
      schemaHash: SCHEMA,
      rule: { codec: float32Codec, size, outerStep: 1, maxStep: 1 },
      maxAuthors: 8
    }
    const sign = (body: Uint8Array) => simSign(name, body)
    const broadcaster = createBroadcaster({ config, reference, live, decay: 1, sign, rng: seededRng('test', name) })
    const driver = createBroadcastDriver({
      config,
      broadcaster,
      transport,
      verify: simVerify,
      broadcastLog: undefined,
      clock: systemClock,
      log: silentLogger,
      onContact: () => undefined,
      onVerdict: (_, verdict) => {
        if (verdict.verdict !== 'accept') verdicts.push(`${verdict.verdict} ${verdict.code}`)
      },
      withLive: (work) => work(),
      members: () => transport.subscribers(announceTopic(FEDERATION)),
      isAround: () => true,
      onBroken: (error) => {
        throw error
      }
    })
    driver.start()
    transport.subscribe(
      announceTopic(FEDERATION),
      () => ({ verdict: 'accept' }),
      () => undefined
    )
    const learn = (at: number, by: number) => {
      live[at] = live[at]! + by
      driver.publish({ samples: 1, totalSamples: 2 })
    }
    return { name, transport, broadcaster, driver, live, verdicts, learn }
  }
  return { network, member }
}

type Member = Awaited<ReturnType<ReturnType<typeof world>['member']>>

/** An honest member, and a peer that says what the test says. */
async function besideEve() {
  const { network, member } = world()
  const honest = await member('bert')
  const eve = network.join({ name: 'eve' })
  await eve.start()
  await network.connectAll()
  return { honest, eve }
}

const alike = (members: readonly Member[]): boolean =>
  new Set(members.map(({ broadcaster }) => broadcaster.hash())).size === 1

const update = (author: string, changes: object = {}, signer = author): Update => {
  const body = encodeUpdateBody({
    federation: FEDERATION,
    schema: SCHEMA,
    author,
    sequence: 1,
    previous: GENESIS,
    samples: 1,
    totalSamples: 2,
    payload: float32Codec.encode(new Float32Array(20).fill(0.5), seededRng('x')),
    ...changes
  })
  const read = readUpdate({ body, signature: simSign(signer, body) }, 1 << 20)
  if (!read.ok) throw new Error('unreadable')
  return read.value
}

describe('the broadcast driver', () => {
  it('tells everybody, and a late one catches up from anybody', async () => {
    const { network, member } = world()
    const [a, b] = [await member('anna'), await member('bert')]
    await network.connectAll()
    a.learn(3, 0.5)
    b.learn(4, -0.25)
    a.learn(3, 0.125)
    await until(() => a.driver.stats().counted === 3 && b.driver.stats().counted === 3)
    expect(alike([a, b])).toBe(true)
    // A half of each: their shares of the examples.
    expect(a.live[3]).toBeCloseTo(Math.sin(3) + 0.25 + 0.0625, 6)
    const c = await member('cleo')
    await network.connectAll()
    expect(await c.driver.synchronise('bert')).toBe(true)
    expect(alike([a, b, c])).toBe(true)
    expect(c.driver.agreesWith('bert')).toBe(true)
    expect(c.driver.stats().heads).toHaveLength(2)
  })

  it('announces what is too large for pubsub, and who lacks it pulls it over a stream', async () => {
    const { network, member } = world(20_000)
    const [a, b] = [await member('anna'), await member('bert')]
    await network.connectAll()
    a.learn(3, 0.5)
    await until(() => b.driver.stats().counted === 1)
    expect(alike([a, b])).toBe(true)
    expect(b.driver.stats().received).toBeGreaterThan(80_000)
  })

  it('gives a newcomer the sum of what nobody keeps, once others confirm it', async () => {
    const { network, member } = world()
    const members = [await member('anna'), await member('bert'), await member('cleo')]
    await network.connectAll()
    for (const one of members) for (let n = 1; n <= 3; n++) one.learn(n, 0.1)
    await until(() => members.every(({ driver }) => driver.stats().counted === 9))
    for (const { broadcaster } of members)
      for (const author of ['anna', 'bert', 'cleo']) broadcaster.dispatch({ type: 'compact', author, upTo: 3 })
    const dora = await member('dora')
    await network.connectAll()
    await dora.driver.synchronise('anna')
    expect(dora.driver.stats()).toMatchObject({ snapshots: 1, held: 0 })
    expect(alike([...members, dora])).toBe(true)
    expect(dora.live).toEqual(dora.broadcaster.replica)
  })

  it('does not take a sum that others do not confirm', async () => {
    const { network, member } = world()
    const [liar, honest] = [await member('anna'), await member('bert')]
    await network.connectAll()
    for (let n = 1; n <= 3; n++) liar.learn(n, 0.1)
    await until(() => honest.driver.stats().counted === 3)
    for (const { broadcaster } of [liar, honest]) broadcaster.dispatch({ type: 'compact', author: 'anna', upTo: 3 })
    const { heads } = liar.broadcaster.snapshot()
    liar.broadcaster.adopt({ heads, units: new Float64Array(20).fill(2 ** 40) })
    const dora = await member('dora')
    await network.connectAll()
    await dora.driver.synchronise('anna')
    expect(dora.driver.stats()).toMatchObject({ snapshots: 0 })
    await dora.driver.synchronise('bert')
    expect(dora.driver.stats()).toMatchObject({ snapshots: 0 })
    expect(dora.broadcaster.replica[0]).toBe(0)
  })

  it.each([
    ['reject broadcast/bad-signature', encodeUpdateFrame(update('eve', {}, 'mallory'))],
    ['reject broadcast/not-the-author', encodeUpdateFrame(update('anna'))],
    ['reject codec/malformed', new Uint8Array([1, 2, 3])]
  ])('refuses what is published with %s', async (verdict, frame) => {
    const { honest, eve } = await besideEve()
    await eve.publish(updatesTopic(FEDERATION), frame)
    await until(() => honest.verdicts.length > 0)
    expect(honest.verdicts).toEqual([verdict])
    expect(honest.driver.stats().counted).toBe(0)
  })

  it.each([
    ['reject codec/too-large', { type: 'update', sizeBytes: 2 ** 31 }, undefined],
    ['reject codec/too-large', { type: 'snapshot', heads: [], sizeBytes: 24 }, undefined],
    ['reject broadcast/bad-signature', undefined, encodeSigned(update('eve', {}, 'mallory'))],
    [
      'reject broadcast/other-schema',
      { type: 'digest', digest: { federation: FEDERATION, schema: 'e'.repeat(64), heads: [], wants: [] } },
      undefined
    ]
  ] as const)('ends a conversation with %s', async (verdict, header, payload) => {
    const { honest, eve } = await besideEve()
    const channel = await eve.open('bert', SYNC_PROTOCOL)
    await channel.send(encodeSyncHeader(header ?? { type: 'update', sizeBytes: payload!.length }))
    if (payload !== undefined) await channel.send(payload)
    await until(() => honest.verdicts.length > 0)
    expect(honest.verdicts).toEqual([verdict])
    expect(honest.broadcaster.state().authors.size).toBe(0)
  })

  it('stops when told to, in the middle of a conversation', async () => {
    const { honest, eve } = await besideEve()
    await eve.open('bert', SYNC_PROTOCOL)
    await honest.driver.stop()
    expect(await honest.driver.synchronise('eve')).toBe(false)
  })
})
