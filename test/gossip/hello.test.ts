import fc from 'fast-check'
import { afterEach, describe, expect, it } from 'vitest'
import { systemClock } from '../../src/base/clock.js'
import { silentLogger } from '../../src/base/log.js'
import { decodeHello, encodeHello, type Hello, type HelloRecord, startHello } from '../../src/gossip/hello.js'
import { MAX_HELLO_BYTES } from '../../src/gossip/limits.js'
import { HELLO_PROTOCOL } from '../../src/gossip/topics.js'
import type { Transport } from '../../src/gossip/transport.js'
import { eventually } from '../eventually.js'
import { libp2pWorld, memoryWorld, mustConnect, type World } from './worlds.js'

const OURS = 'a3'.repeat(32)
const THEIRS = '0f'.repeat(32)
const bytesOf = (value: unknown) => new TextEncoder().encode(JSON.stringify(value))

describe('the card', () => {
  it('goes through bytes unchanged', () => {
    const printable = fc.string({ maxLength: 64 }).map((text) => text.replace(/\p{C}/gu, ' ').trim())
    fc.assert(
      fc.property(printable, printable, (version, name) => {
        const card = { federation: OURS, version, name }
        expect(decodeHello(encodeHello(card))).toEqual({ ok: true, value: card })
      })
    )
  })

  it('never throws for what a peer sent', () => {
    const isRefused = (bytes: Uint8Array) => !decodeHello(bytes).ok
    fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), isRefused))
    fc.assert(fc.property(fc.json(), (json) => isRefused(new TextEncoder().encode(json))))
  })

  it.each([
    ['hello/too-large', new Uint8Array(MAX_HELLO_BYTES + 1)],
    ['hello/malformed', Uint8Array.of(0xff, 0xfe)],
    ['hello/malformed', bytesOf([1])],
    ['hello/unsupported-version', bytesOf({ peertune: 2, federation: OURS, version: '1', name: 'n' })],
    ['hello/malformed', bytesOf({ peertune: 1, federation: OURS.toUpperCase(), version: '1', name: 'n' })],
    ['hello/malformed', bytesOf({ peertune: 1, federation: OURS, version: '1', name: 'n'.repeat(65) })],
    ['hello/malformed', bytesOf({ peertune: 1, federation: OURS, version: 7, name: 'n' })]
  ])('is refused with %s', (code, bytes) => {
    expect(decodeHello(bytes)).toMatchObject({ ok: false, verdict: { verdict: 'reject', code } })
  })

  it('cannot put control characters on a terminal', () => {
    const bytes = bytesOf({ peertune: 1, federation: OURS, version: '1\n2', name: '\u001b[31mred\u0007' })
    expect(decodeHello(bytes)).toMatchObject({ ok: true, value: { version: '1 2', name: '[31mred' } })
  })

  it('refuses the operator a name that does not fit', () => {
    expect(() => encodeHello({ federation: OURS, version: '1', name: 'n'.repeat(65) })).toThrow(
      expect.objectContaining({ code: 'config/name-too-long' })
    )
  })
})

describe.each([
  ['memory', memoryWorld],
  ['libp2p', libp2pWorld]
] as const)('hello over %s', (_name, createWorld) => {
  let world: World
  const hellos: Hello[] = []
  afterEach(async () => {
    for (const hello of hellos.splice(0)) hello.stop()
    await world.dispose()
  })

  const member = async (name: string, federation = OURS): Promise<[Transport, Hello, HelloRecord[]]> => {
    const transport = await world.create()
    const seen: HelloRecord[] = []
    const hello = startHello({
      transport,
      card: { federation, version: '1.2.3', name },
      clock: systemClock,
      log: silentLogger,
      onRecord: (record) => seen.push(record),
      // Nobody here is silent: whoever does not answer breaks the channel.
      timeoutMs: 300_000,
      retryMs: 20
    })
    hellos.push(hello)
    return [transport, hello, seen]
  }

  it('introduces members of one federation to each other', async () => {
    world = createWorld()
    const [[a, helloA, seenA], [b, helloB]] = [await member('ada'), await member('bob')]
    await mustConnect(a, b)
    await eventually(() => expect([helloA.isMember(b.self), helloB.isMember(a.self)]).toEqual([true, true]))
    expect(helloA.record(b.self)).toEqual({
      peer: b.self,
      state: 'member',
      card: { federation: OURS, version: '1.2.3', name: 'bob' }
    })
    // Both greeted; the second, equal record is no news.
    expect(seenA).toHaveLength(1)
  })

  it('remembers a peer of another federation, naming both, and does not count it as a member', async () => {
    world = createWorld()
    const [[a, helloA], [b, helloB]] = [await member('ada'), await member('eve', THEIRS)]
    await mustConnect(a, b)
    await eventually(() => expect(helloA.record(b.self)?.state).toBe('wrong-federation'))
    await eventually(() => expect(helloB.record(a.self)?.state).toBe('wrong-federation'))
    expect(helloA.record(b.self)).toMatchObject({
      detail: expect.stringMatching(/\(eve\) belongs to federation 0f0f0f0f…, this node to a3a3a3a3…/)
    })
    expect(helloA.isMember(b.self)).toBe(false)
    await b.stop()
    await eventually(() => expect(a.connected()).toEqual([]))
    expect(helloA.records()).toHaveLength(1)
  })

  it.each([
    ['malformed', new TextEncoder().encode('GET / HTTP/1.1')],
    ['malformed', new Uint8Array(MAX_HELLO_BYTES + 1)],
    ['silent', undefined]
  ])('notes a peer as %s when its answer is none', async (state, answer) => {
    world = createWorld()
    const [a, hello] = await member('ada')
    const rude = await world.create()
    rude.handle(HELLO_PROTOCOL, async (channel) => {
      if (answer === undefined) throw new Error('no answer')
      await channel.send(answer)
      await channel.receive().catch(() => undefined)
    })
    await mustConnect(a, rude)
    await eventually(() => expect(hello.record(rude.self)?.state).toBe(state))
    expect(hello.isMember(rude.self)).toBe(false)
  })
})
