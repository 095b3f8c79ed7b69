import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { seededRng } from '../../../src/base/rng.js'
import type { ExchangeMessage } from '../../../src/codec/wire/messages.js'
import { MAX_PAYLOAD_BYTES, payloadHeader } from '../../../src/codec/wire/payload.js'
import { decodeExchangeMessage, encodeExchangeMessage, MAX_MESSAGE_BYTES } from '../../../src/codec/wire/wire.js'
import { EXCHANGE_PROTOCOL } from '../../../src/gossip/topics.js'
import type { Channel } from '../../../src/gossip/transport.js'
import { FRAME_TIMEOUT_MS } from '../../../src/node/pairwise/driver.js'
import { MAX_MESSAGES_PER_CHANNEL } from '../../../src/node/pairwise/links.js'
import { createVirtualClock } from '../../gossip/virtual-clock.js'
import { exchangeWorld, SIZE } from './exchange-world.js'
import { runs } from '../../counts.js'

const exchangeId = 'ab'.repeat(16)

/** A victim that exchanges properly, and a transport in the hands of somebody who does not. */
async function siege(seed: string) {
  const clock = createVirtualClock()
  const world = exchangeWorld({ seed, clock })
  const victim = await world.member('victim', 3)
  const friend = await world.member('friend', 5)
  const mallory = world.network.join({ name: 'mallory' })
  await mallory.start()
  await world.network.connectAll()
  const before = victim.live.slice()
  const { config } = victim
  const hello: ExchangeMessage = {
    type: 'hello',
    exchangeId,
    federation: config.federation,
    schema: config.schema.hash,
    phase: 'training',
    weight: 5,
    codec: 'int8',
    gamma: 1
  }
  return {
    ...{ clock, victim, mallory, hello },
    open: () => mallory.open('victim', EXCHANGE_PROTOCOL),
    /** The victim is as it was, and still makes exchanges with others. */
    async unharmed() {
      expect(victim.live).toEqual(before)
      expect(victim.driver.busy()).toBe(false)
      expect(await victim.driver.exchangeWith('friend')).toEqual({ kind: 'committed' })
      expect(friend.committed.length).toBe(1)
    },
    codes: () => victim.verdicts.map(({ peer, verdict }) => [peer, verdict.verdict, 'code' in verdict && verdict.code])
  }
}

const payload = new Uint8Array(SIZE + 4)
const frames = (message: ExchangeMessage, ...chunks: Uint8Array[]) => [encodeExchangeMessage(message), ...chunks]
const commit = (header = payloadHeader(payload)): ExchangeMessage => ({ type: 'commit', exchangeId, payload: header })

describe('a peer that sends what it must not', () => {
  const good = encodeExchangeMessage(commit())
  const cases: readonly (readonly [string, readonly Uint8Array[], string])[] = [
    ['random bytes', [Uint8Array.from({ length: 100 }, (_, i) => (i * 89) % 256)], 'codec/malformed'],
    ['an empty frame', [new Uint8Array(0)], 'codec/unsupported-version'],
    ['a truncated message', [good.subarray(0, good.length - 3)], 'codec/malformed'],
    ['a frame too large for a message', [new Uint8Array(MAX_MESSAGE_BYTES + 1)], 'codec/too-large'],
    [
      'a payload of four gigabytes',
      frames(commit({ sizeBytes: 2 ** 32 - 1, sha256: '0'.repeat(64) })),
      'codec/too-large'
    ],
    [
      'a payload of another size',
      frames(commit({ sizeBytes: MAX_PAYLOAD_BYTES, sha256: '0'.repeat(64) })),
      'codec/wrong-length'
    ],
    ['a chunk that is too short', frames(commit(), payload.subarray(1)), 'codec/wrong-length'],
    ['a chunk that is too long', frames(commit(), new Uint8Array(SIZE + 5)), 'codec/wrong-length']
  ]

  it.each(cases)('%s: a verdict, its link is dropped, nothing else happens', async (_, sent, code) => {
    const { open, unharmed, codes } = await siege(`bytes ${code}`)
    const channel = await open()
    for (const frame of sent) await channel.send(frame)
    await expect(channel.receive()).rejects.toMatchObject({ code: 'gossip/channel-broken' })
    expect(codes()).toEqual([['mallory', 'reject', code]])
    await unharmed()
  })

  it('a COMMIT with a wrong checksum after a proper HELLO is refused by name', async () => {
    const { open, hello, unharmed, codes } = await siege('checksum')
    const channel = await open()
    await channel.send(encodeExchangeMessage(hello))
    await channel.receive()
    await channel.receive()
    for (const frame of frames(commit({ sizeBytes: payload.length, sha256: '0'.repeat(64) }), payload))
      await channel.send(frame)
    const answer = decodeExchangeMessage((await channel.receive())!)
    expect(answer).toMatchObject({ ok: true, value: { type: 'refuse', code: 'bad-checksum' } })
    expect(await channel.receive()).toBeUndefined()
    expect(codes()).toEqual([['mallory', 'reject', 'codec/bad-checksum']])
    await unharmed()
  })

  it('questions without end are cut off', async () => {
    const { open, unharmed, codes } = await siege('questions')
    const channel = await open()
    const drain = (async () => {
      for (;;) if ((await channel.receive()) === undefined) return
    })()
    for (let i = 0; i <= MAX_MESSAGES_PER_CHANNEL; i++)
      await channel.send(encodeExchangeMessage({ type: 'resolve', exchangeId }))
    await expect(drain).rejects.toMatchObject({ code: 'gossip/channel-broken' })
    expect(codes()).toEqual([['mallory', 'reject', 'exchange/too-many-messages']])
    await unharmed()
  })

  it('any frames at all leave the victim at work', async () => {
    const { open, unharmed, hello } = await siege('fuzz')
    const rng = seededRng('fuzz')
    const valid = [
      hello,
      commit(),
      { type: 'ack', exchangeId },
      { type: 'resolution', exchangeId, fate: 'committed' }
    ].map((message) => encodeExchangeMessage(message as ExchangeMessage))
    const frame = fc.oneof(fc.uint8Array({ maxLength: 300 }), fc.constantFrom(...valid, payload))
    await fc.assert(
      fc.asyncProperty(fc.array(frame, { maxLength: 5 }), async (sent) => {
        const channel = await open()
        for (const one of sent) await channel.send(one).catch(() => undefined)
        if (rng.integer(2) === 0) channel.abort(new Error('enough'))
        await channel.close()
      }),
      { numRuns: runs(150) }
    )
    await expect.poll(() => open().then((channel) => channel.close().then(() => true))).toBe(true)
    await new Promise((resolve) => setImmediate(resolve))
    await unharmed()
  })
})

describe('a peer that says nothing', () => {
  it('loses its link after the time of one frame', async () => {
    const { clock, open, unharmed, codes } = await siege('silence')
    const channel = await open()
    await clock.advance(FRAME_TIMEOUT_MS + 1)
    await expect(channel.receive()).rejects.toMatchObject({ code: 'gossip/channel-broken' })
    expect(codes()).toEqual([['mallory', 'ignore', 'exchange/timeout']])
    await unharmed()
  })

  it('after HELLO does not hold the victim: the next partner is busy only until then', async () => {
    const { clock, victim, open, hello, unharmed } = await siege('half')
    const channel = await open()
    await channel.send(encodeExchangeMessage(hello))
    await clock.advance(0)
    expect(victim.driver.busy()).toBe(true)
    await clock.advance(FRAME_TIMEOUT_MS + 1)
    await unharmed()
  })

  it('as a responder makes the exchange fail, before ACCEPT, and leaves a doubt after COMMIT', async () => {
    const { clock, victim, mallory, codes } = await siege('mute')
    const channels: Channel[] = []
    mallory.handle(EXCHANGE_PROTOCOL, async (channel) => {
      channels.push(channel)
      await new Promise(() => undefined)
    })
    const outcome = victim.driver.exchangeWith('mallory')
    await clock.advance(FRAME_TIMEOUT_MS + 1)
    expect(await outcome).toEqual({ kind: 'failed', code: 'exchange/timeout' })

    const second = victim.driver.exchangeWith('mallory')
    await clock.advance(0)
    const hello = decodeExchangeMessage((await channels[1]!.receive())!)
    const header = payloadHeader(payload)
    const id = hello.ok ? hello.value.exchangeId : ''
    const accept = { type: 'accept', exchangeId: id, phase: 'training', weight: 5, payload: header } as const
    for (const frame of frames(accept, payload)) await channels[1]!.send(frame)
    await clock.advance(FRAME_TIMEOUT_MS + 1)
    expect(await second).toEqual({ kind: 'in-doubt' })
    expect(victim.driver.inDoubt()).toEqual(['mallory'])
    expect(victim.committed).toEqual([])
    expect(codes()).toEqual([
      ['mallory', 'ignore', 'exchange/timeout'],
      ['mallory', 'ignore', 'exchange/timeout']
    ])
  })

  it('but drips one frame before each time-out runs out of conversation', async () => {
    const { clock, open, hello, codes, unharmed } = await siege('drip')
    const channel = await open()
    await channel.send(encodeExchangeMessage(hello))
    for (let i = 0; i < 4; i++) {
      await clock.advance(FRAME_TIMEOUT_MS - 1)
      await channel.send(encodeExchangeMessage({ type: 'resolve', exchangeId: 'cd'.repeat(16) })).catch(() => undefined)
    }
    expect(codes()).toEqual([['mallory', 'ignore', 'exchange/timeout']])
    await unharmed()
  })
})
