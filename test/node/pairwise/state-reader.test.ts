import { describe, expect, it } from 'vitest'
import { systemClock } from '../../../src/base/clock.js'
import type { Verdict } from '../../../src/base/verdict.js'
import type { CodecName } from '../../../src/codec/codec.js'
import { MAX_MESSAGE_BYTES } from '../../../src/codec/wire/wire.js'
import { decodeStateReply, encodeStateReply, encodeStateRequest } from '../../../src/codec/wire/state.js'
import { codecByName } from '../../../src/codec/registry.js'
import type { ExchangeConfig } from '../../../src/consensus/exchange/types.js'
import { PLACE_TIMEOUT_MS } from '../../../src/consensus/catch-up/course.js'
import { createMemoryNetwork, type MemoryNetwork } from '../../../src/gossip/memory/memory.js'
import { STATE_PROTOCOL } from '../../../src/gossip/topics.js'
import { createStateReader, STATE_FRAME_TIMEOUT_MS, STATES_BURST } from '../../../src/node/pairwise/state-reader.js'
import { distance2 } from '../../../src/tensor/linear.js'
import { createVirtualClock } from '../../gossip/virtual-clock.js'
import { randomVector, reference, SIZE } from './exchange-world.js'

const configOf = (name: string, codec: CodecName, federation = 'f'): ExchangeConfig => ({
  self: name,
  federation: federation.repeat(64),
  schema: { hash: '5'.repeat(64), size: SIZE },
  reference,
  codec: codecByName(codec),
  gamma: 1,
  weight: 70,
  incarnation: name
})

async function member(network: MemoryNetwork, name: string, codec: CodecName = 'int8', federation = 'f') {
  const transport = network.join({ name })
  await transport.start()
  const live = reference.map((value, i) => value + randomVector(3, name)[i]!)
  const verdicts: Verdict[] = []
  const reader = createStateReader({
    transport,
    clock: systemClock,
    config: configOf(name, codec, federation),
    parameters: () => live,
    moment: () => ({ phase: 'settling', step: 123 }),
    onVerdict: (_, verdict) => verdicts.push(verdict),
    frameTimeoutMs: 2_000
  })
  return { transport, live, reader, verdicts }
}

/** Alice, who asks, and Bob, who answers, of the same codec, and of one federation unless another is given. */
async function askerAndReader(seed: string, codec: CodecName = 'int8', federation = 'f') {
  const network = createMemoryNetwork({ seed, clock: systemClock })
  const [alice, bob] = [await member(network, 'alice', codec, federation), await member(network, 'bob', codec)]
  bob.reader.start()
  await network.connectAll()
  return { alice, bob }
}

describe('reading a state', () => {
  it.each(['float32', 'int8', 'topk-edge'] as const)('gives what the other has learned, under %s', async (codec) => {
    const { alice, bob } = await askerAndReader(codec, codec)
    const before = bob.live.slice()
    const answer = await alice.reader.ask('bob')
    expect(answer).toMatchObject({ ok: true, value: { phase: 'settling', step: 123, weight: 70 } })
    const { vector } = (answer as { value: { vector: Float32Array } }).value
    // int8 with a scale for 256 elements is off by less than a hundredth of the way from the start.
    expect(distance2(vector, bob.live) / distance2(bob.live, reference)).toBeLessThan(codec === 'float32' ? 1e-6 : 0.01)
    expect(bob.live).toEqual(before)
    expect(bob.reader.given()).toBe(1)
    expect(await alice.reader.askPlace('bob')).toEqual({
      ok: true,
      value: { phase: 'settling', step: 123, weight: 70 }
    })
    expect(bob.reader.given()).toBe(1)
  })

  it('waits less long for how far a peer is than for its state', async () => {
    const clock = createVirtualClock()
    const network = createMemoryNetwork({ seed: 'silent', clock })
    const [alice, bob] = [network.join({ name: 'alice' }), network.join({ name: 'bob' })]
    await Promise.all([alice.start(), bob.start()])
    bob.handle(STATE_PROTOCOL, () => new Promise(() => undefined))
    await network.connectAll()
    const reader = createStateReader({
      transport: alice,
      clock,
      config: configOf('alice', 'int8', 'f'),
      parameters: () => reference,
      moment: () => ({ phase: 'training', step: 0 }),
      onVerdict: () => undefined
    })
    const ended: string[] = []
    void reader.askPlace('bob').then(({ ok }) => ended.push(`place ${ok}`))
    void reader.ask('bob').then(({ ok }) => ended.push(`state ${ok}`))
    await clock.advance(PLACE_TIMEOUT_MS - 100)
    expect(ended).toEqual([])
    await clock.advance(1_000)
    expect(ended).toEqual(['place false'])
    await clock.advance(STATE_FRAME_TIMEOUT_MS)
    expect(ended).toEqual(['place false', 'state false'])
  })

  it('has a budget, and says so', async () => {
    const { alice, bob } = await askerAndReader('budget')
    for (let i = 0; i < STATES_BURST; i++) expect((await alice.reader.ask('bob')).ok).toBe(true)
    expect(await alice.reader.ask('bob')).toMatchObject({ ok: false, verdict: { code: 'state/rate-limited' } })
    expect(bob.verdicts).toEqual([{ verdict: 'ignore', code: 'state/rate-limited' }])
  })

  it('is refused across federations, and to those that send something else', async () => {
    const { alice, bob } = await askerAndReader('others', 'int8', 'e')
    expect(await alice.reader.ask('bob')).toMatchObject({ ok: false, verdict: { code: 'state/other-federation' } })
    const channel = await alice.transport.open('bob', STATE_PROTOCOL)
    await channel.send(new Uint8Array(9).fill(255))
    const reply = decodeStateReply((await channel.receive({ maxBytes: MAX_MESSAGE_BYTES }))!)
    expect(reply).toEqual({ ok: true, value: { type: 'refuse', code: 'malformed' } })
    expect(bob.verdicts).toMatchObject([{ verdict: 'reject', code: 'codec/malformed' }])
    expect(await alice.reader.ask('carol')).toMatchObject({ ok: false, verdict: { verdict: 'ignore' } })
  })

  it.each([
    ['another length', { sizeBytes: SIZE, sha256: 'a'.repeat(64) }, 'int8', 'codec/wrong-length'],
    ['another codec', { sizeBytes: 504, sha256: 'a'.repeat(64) }, 'int4', 'state/other-codec'],
    ['bytes that are not the announced ones', { sizeBytes: 504, sha256: 'a'.repeat(64) }, 'int8', 'codec/bad-checksum']
  ])('refuses an answer with %s', async (_, payload, codec, code) => {
    const network = createMemoryNetwork({ seed: 'liar', clock: systemClock })
    const alice = await member(network, 'alice')
    const liar = network.join({ name: 'liar' })
    await liar.start()
    liar.handle(STATE_PROTOCOL, async (channel) => {
      expect(await channel.receive()).toEqual(
        encodeStateRequest({ federation: 'f'.repeat(64), schema: '5'.repeat(64), placeOnly: false })
      )
      const state = { phase: 'training', weight: 1, step: 1, codec, payload } as const
      await channel.send(encodeStateReply({ type: 'state', state }))
      await channel.send(new Uint8Array(504))
    })
    await network.connectAll()
    expect(await alice.reader.ask('liar')).toMatchObject({ ok: false, verdict: { verdict: 'reject', code } })
    expect(alice.verdicts).toHaveLength(1)
  })
})
