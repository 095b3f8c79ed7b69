import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { ACCEPT, ignore, reject, type Verdict } from '../../src/base/verdict.js'
import { MAX_ANNOUNCEMENT_BYTES } from '../../src/gossip/limits.js'
import type { Channel, PeerId, Transport } from '../../src/gossip/transport.js'
import { eventually } from '../eventually.js'
import { mustConnect, TOPIC, type World } from './worlds.js'

const ECHO = '/peertune/test-echo/1.0.0'

const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes)
const bytesOf = (value: string) => new TextEncoder().encode(value)
/** Bytes that differ everywhere, so that a shifted or swapped chunk shows. */
const pattern = (length: number, seed: number) =>
  Uint8Array.from({ length }, (_, i) => Math.imul(i + seed, 2_654_435_761) >>> 24)

const failsWith = (code: string) => expect.objectContaining({ code })

/** Collects what one subscriber heard. */
function listen(transport: Transport, verdict: (from: PeerId, bytes: Uint8Array) => Verdict = () => ACCEPT) {
  const heard: { from: PeerId; text: string }[] = []
  const checked: string[] = []
  transport.subscribe(
    TOPIC,
    (from, bytes) => {
      checked.push(text(bytes))
      return verdict(from, bytes)
    },
    (from, bytes) => heard.push({ from, text: text(bytes) })
  )
  return { heard, checked }
}

const echo = async (channel: Channel) => {
  for (let frame = await channel.receive(); frame !== undefined; frame = await channel.receive()) {
    await channel.send(frame)
  }
}

/** What every Transport promises, whatever carries it. */
export function transportSuite(name: string, createWorld: () => World): void {
  describe(`${name} transport`, () => {
    let world: World
    beforeEach(() => {
      world = createWorld()
    })
    afterEach(() => world.dispose())

    const pair = async (): Promise<[Transport, Transport]> => {
      const [a, b] = [await world.create(), await world.create()]
      await mustConnect(a, b)
      await eventually(() => expect(b.connected()).toEqual([a.self]))
      return [a, b]
    }
    const bothListen = async (a: Transport, b: Transport) =>
      eventually(() => expect([a.subscribers(TOPIC), b.subscribers(TOPIC)]).toEqual([[b.self], [a.self]]))

    describe('announcements', () => {
      it('delivers what is accepted, drops what is ignored or rejected, and names the signer', async () => {
        const [a, b] = await pair()
        listen(a)
        const { heard, checked } = listen(b, (_from, bytes) => {
          if (text(bytes) === 'early') return ignore('test/early')
          return text(bytes).includes('bad') ? reject('test/bad') : ACCEPT
        })
        await bothListen(a, b)
        for (const said of ['early', 'bad', `from: ${b.self}`]) await a.publish(TOPIC, bytesOf(said))
        await eventually(() => expect(checked).toHaveLength(3))
        await eventually(() => expect(heard).toHaveLength(1))
        // The payload says b; the signature says a.
        expect(heard).toEqual([{ from: a.self, text: `from: ${b.self}` }])
      })

      it('passes on only what was accepted on the way', async () => {
        const [a, b] = await pair()
        const c = await world.create()
        await mustConnect(b, c)
        listen(a)
        listen(b, (_from, bytes) => (text(bytes) === 'stop here' ? ignore('test/stop') : ACCEPT))
        const { heard } = listen(c)
        await eventually(() => expect(b.subscribers(TOPIC)).toHaveLength(2))
        await eventually(() => expect([a.subscribers(TOPIC), c.subscribers(TOPIC)]).toEqual([[b.self], [b.self]]))
        // Announcements repeat themselves: what passes before the mesh has formed may get no further.
        await eventually(async () => {
          await a.publish(TOPIC, bytesOf('stop here'))
          await a.publish(TOPIC, bytesOf('go on'))
          expect(heard.length).toBeGreaterThan(0)
        })
        expect(new Set(heard.map((one) => `${one.from} ${one.text}`))).toEqual(new Set([`${a.self} go on`]))
      })

      it('takes the largest announcement and refuses a larger one at its author', async () => {
        const [a, b] = await pair()
        listen(a)
        const { heard } = listen(b)
        await bothListen(a, b)
        await expect(a.publish(TOPIC, new Uint8Array(MAX_ANNOUNCEMENT_BYTES + 1))).rejects.toEqual(
          failsWith('gossip/announcement-too-large')
        )
        await a.publish(TOPIC, new Uint8Array(MAX_ANNOUNCEMENT_BYTES).fill(0x61))
        await eventually(() => expect(heard[0]?.text).toHaveLength(MAX_ANNOUNCEMENT_BYTES))
      })

      it('reaches nobody without an error, and refuses topics that are not its own', async () => {
        const a = await world.create()
        listen(a)
        await a.publish(TOPIC, bytesOf('anybody?'))
        await expect(a.publish('another', bytesOf('x'))).rejects.toEqual(failsWith('gossip/topic-not-allowed'))
        expect(() =>
          a.subscribe(
            'another',
            () => ACCEPT,
            () => undefined
          )
        ).toThrow(failsWith('gossip/topic-not-allowed'))
        expect(() => listen(a)).toThrow(failsWith('gossip/already-registered'))
      })

      it('survives a validator and a delivery that throw', async () => {
        const [a, b] = await pair()
        const heard: string[] = []
        listen(a)
        b.subscribe(
          TOPIC,
          (_from, bytes) => {
            if (text(bytes) === 'throw') throw new Error('a bug in a validator')
            return ACCEPT
          },
          (_from, bytes) => {
            heard.push(text(bytes))
            if (text(bytes) === 'first') throw new Error('a bug in a delivery')
          }
        )
        await bothListen(a, b)
        for (const said of ['throw', 'first', 'second']) await a.publish(TOPIC, bytesOf(said))
        await eventually(() => expect(heard).toEqual(['first', 'second']))
      })
    })

    describe('channels', () => {
      it('carries frames of unequal sizes both ways, in order, from 0 bytes to 3 MiB', async () => {
        const [a, b] = await pair()
        b.handle(ECHO, echo)
        const sizes = [1, 0, 3 * 1_048_576, 127, 128, 65_537]
        const channel = await a.open(b.self, ECHO)
        expect(channel.peer).toBe(b.self)
        for (const [i, size] of sizes.entries()) {
          await channel.send(pattern(size, i))
          const back = await channel.receive()
          expect(back?.length).toBe(size)
          expect(Buffer.compare(back as Uint8Array, pattern(size, i))).toBe(0)
        }
        await channel.close()
        expect(await channel.receive()).toBeUndefined()
      })

      it('lets the one who was connected to open as well', async () => {
        const [a, b] = await pair()
        const seen: PeerId[] = []
        a.handle(ECHO, async (channel) => {
          seen.push(channel.peer)
          await echo(channel)
        })
        const channel = await b.open(a.self, ECHO)
        await channel.send(pattern(5, 3))
        expect(await channel.receive()).toEqual(pattern(5, 3))
        expect(seen).toEqual([b.self])
        await channel.close()
      })

      it('delivers everything sent before a close, then ends', async () => {
        const [a, b] = await pair()
        const got: (string | undefined)[] = []
        const finished = Promise.withResolvers<void>()
        b.handle(ECHO, async (channel) => {
          for (let i = 0; i < 3; i++) got.push(((await channel.receive()) as Uint8Array | undefined)?.length.toString())
          finished.resolve()
        })
        const channel = await a.open(b.self, ECHO)
        await channel.send(pattern(300_000, 1))
        await channel.send(pattern(7, 2))
        await channel.close()
        await channel.close()
        await finished.promise
        expect(got).toEqual(['300000', '7', undefined])
        await expect(channel.send(pattern(1, 1))).rejects.toEqual(failsWith('gossip/channel-closed'))
      })

      it('breaks at both ends on abort', async () => {
        const [a, b] = await pair()
        const ended = Promise.withResolvers<unknown>()
        b.handle(ECHO, async (channel) => {
          await channel.receive()
          await channel.receive().then(ended.resolve, ended.resolve)
        })
        const channel = await a.open(b.self, ECHO)
        await channel.send(pattern(9, 1))
        channel.abort(new Error('changed my mind'))
        expect(await ended.promise).toEqual(failsWith('gossip/channel-broken'))
        await expect(channel.receive()).rejects.toEqual(failsWith('gossip/channel-broken'))
        await expect(channel.send(pattern(1, 1))).rejects.toEqual(failsWith('gossip/channel-broken'))
      })

      it('does not take the end of a connection for a goodbye', async () => {
        const [a, b] = await pair()
        const held = Promise.withResolvers<Channel>()
        b.handle(ECHO, async (channel) => {
          held.resolve(channel)
          await channel.receive()
        })
        const channel = await a.open(b.self, ECHO)
        await channel.send(pattern(3, 1))
        await held.promise
        const waiting = channel.receive()
        const stopped = b.stop()
        await expect(waiting).rejects.toEqual(failsWith('gossip/channel-broken'))
        await stopped
      })

      it('refuses an oversized frame at its sender', async () => {
        const [a, b] = [await world.create({ maxFrameBytes: 1_000 }), await world.create()]
        await mustConnect(a, b)
        b.handle(ECHO, echo)
        const channel = await a.open(b.self, ECHO)
        await expect(channel.send(new Uint8Array(1_001))).rejects.toEqual(failsWith('gossip/frame-too-large'))
        await channel.send(new Uint8Array(1_000))
        expect(await channel.receive()).toHaveLength(1_000)
        await channel.close()
      })

      it('refuses an oversized frame at its receiver, by its own bound and by the one of the call', async () => {
        const [a, b] = [await world.create(), await world.create({ maxFrameBytes: 100_000 })]
        await mustConnect(a, b)
        const results: unknown[] = []
        const bothDone = Promise.withResolvers<void>()
        b.handle(ECHO, async (channel) => {
          await channel
            .receive({ maxBytes: results.length === 0 ? 1_000_000 : 500 })
            .catch((error) => results.push(error))
          if (results.length === 2) bothDone.resolve()
        })
        const first = await a.open(b.self, ECHO)
        await first.send(new Uint8Array(100_001)).catch(() => undefined)
        await eventually(() => expect(results).toHaveLength(1))
        const second = await a.open(b.self, ECHO)
        await second.send(new Uint8Array(501)).catch(() => undefined)
        await bothDone.promise
        expect(results).toEqual([failsWith('gossip/frame-too-large'), failsWith('gossip/frame-too-large')])
        await expect(second.receive()).rejects.toEqual(failsWith('gossip/channel-broken'))
      })

      it('times out a receive and stays usable; refuses two receives at once', async () => {
        const [a, b] = await pair()
        b.handle(ECHO, echo)
        const channel = await a.open(b.self, ECHO)
        await expect(channel.receive({ timeoutMs: 20 })).rejects.toEqual(failsWith('gossip/receive-timeout'))
        const waiting = channel.receive()
        await expect(channel.receive()).rejects.toEqual(failsWith('gossip/receive-overlap'))
        await channel.send(pattern(11, 4))
        expect(await waiting).toEqual(pattern(11, 4))
        await channel.close()
      })

      it('aborts the channel of a handler that throws, and answers the next one', async () => {
        const [a, b] = await pair()
        let calls = 0
        b.handle(ECHO, async (channel) => {
          if (calls++ === 0) throw new Error('a bug in a handler')
          await echo(channel)
        })
        const first = await a.open(b.self, ECHO)
        await expect(first.receive()).rejects.toEqual(failsWith('gossip/channel-broken'))
        const second = await a.open(b.self, ECHO)
        await second.send(pattern(2, 9))
        expect(await second.receive()).toEqual(pattern(2, 9))
        await second.close()
      })

      it('closes the channel when the handler ends', async () => {
        const [a, b] = await pair()
        b.handle(ECHO, async (channel) => channel.send(pattern(4, 4)))
        const channel = await a.open(b.self, ECHO)
        expect(await channel.receive()).toEqual(pattern(4, 4))
        expect(await channel.receive()).toBeUndefined()
        await channel.close()
      })

      it('says why a channel cannot be opened', async () => {
        const [a, b] = await pair()
        await expect(a.open(b.self, '/peertune/no-such/1.0.0')).rejects.toEqual(
          failsWith('gossip/unsupported-protocol')
        )
        await expect(a.open('nobody', ECHO)).rejects.toEqual(failsWith('gossip/not-connected'))
      })

      it('bounds the channels with one peer, and frees them when they end', async () => {
        const [a, b] = await pair()
        b.handle(ECHO, echo)
        const open: Channel[] = []
        for (let i = 0; i < 16; i++) open.push(await a.open(b.self, ECHO))
        await expect(a.open(b.self, ECHO)).rejects.toEqual(failsWith('gossip/too-many-channels'))
        open[0]?.abort(new Error('make room'))
        const next = await a.open(b.self, ECHO)
        for (const channel of [...open.slice(1), next]) await channel.close()
      })

      it('gives up when the signal aborts', async () => {
        const [a, b] = await pair()
        b.handle(ECHO, echo)
        const giveUp = new AbortController()
        const channel = await a.open(b.self, ECHO, giveUp.signal)
        const waiting = channel.receive()
        giveUp.abort(new Error('enough'))
        await expect(waiting).rejects.toEqual(failsWith('gossip/channel-broken'))
        await expect(a.open(b.self, ECHO, giveUp.signal)).rejects.toEqual(failsWith('gossip/open-failed'))
      })
    })

    describe('peers', () => {
      it('tells who came and who went', async () => {
        const [a, b] = [await world.create(), await world.create()]
        const events: string[] = []
        const off = a.on('connect', (peer) => events.push(`+${peer}`))
        a.on('disconnect', (peer) => events.push(`-${peer}`))
        await mustConnect(a, b)
        expect(a.connected()).toEqual([b.self])
        await b.stop()
        await eventually(() => expect(events).toEqual([`+${b.self}`, `-${b.self}`]))
        expect(a.connected()).toEqual([])
        off()
        const c = await world.create()
        await mustConnect(a, c)
        await eventually(() => expect(a.connected()).toEqual([c.self]))
        expect(events).toHaveLength(2)
      })

      it('stops more than once, and refuses work afterwards', async () => {
        const [a, b] = await pair()
        await a.stop()
        await a.stop()
        await eventually(() => expect(b.connected()).toEqual([]))
        await expect(a.publish(TOPIC, bytesOf('x'))).rejects.toEqual(failsWith('gossip/not-running'))
        await expect(a.open(b.self, ECHO)).rejects.toEqual(failsWith('gossip/not-running'))
      })

      it('bans a peer: drops it, refuses its dials and makes none', async () => {
        const [a, b] = await pair()
        const [addressOfA, addressOfB] = [a.addresses()[0] ?? '', b.addresses()[0] ?? '']
        a.ban(b.self, 60_000)
        await eventually(() => expect([a.connected(), b.connected()]).toEqual([[], []]))
        expect(await a.connect(addressOfB)).toMatchObject({ ok: false, code: 'banned' })
        expect(await b.connect(addressOfA)).toMatchObject({ ok: false, code: 'unreachable' })
        expect(a.connected()).toEqual([])
      })

      it('counts bytes in both directions, framing included, per peer and in all', async () => {
        const [a, b] = await pair()
        b.handle(ECHO, echo)
        const before = [a.traffic(b.self), b.traffic(a.self), a.traffic()] as const
        const channel = await a.open(b.self, ECHO)
        await channel.send(pattern(200_000, 1))
        await channel.receive()
        await channel.close()
        const after = [a.traffic(b.self), b.traffic(a.self), a.traffic()] as const
        // 200,000 bytes and a length of 3: the least that can have moved; pings and handshakes come on top.
        for (const [i, counters] of after.entries()) {
          const sent = counters.bytesSent - (before[i]?.bytesSent ?? 0)
          const received = counters.bytesReceived - (before[i]?.bytesReceived ?? 0)
          expect(sent).toBeGreaterThanOrEqual(200_003)
          expect(sent).toBeLessThan(215_000)
          expect(received).toBeGreaterThanOrEqual(200_003)
          expect(received).toBeLessThan(215_000)
        }
        expect(a.traffic('nobody')).toEqual({ bytesSent: 0, bytesReceived: 0 })
      })

      it('says in words why a peer cannot be reached', async () => {
        const [a, b] = [await world.create(), await world.create()]
        const address = b.addresses()[0] ?? ''
        expect(await a.connect('what is this')).toMatchObject({
          code: 'bad-address',
          detail: expect.stringContaining('what is this')
        })
        expect(await a.connect(a.addresses()[0] ?? '')).toMatchObject({ code: 'self' })
        const stranger = await world.create()
        const impostor = address.replace(`/p2p/${b.self}`, `/p2p/${stranger.self}`)
        expect(await a.connect(impostor)).toMatchObject({
          code: 'wrong-peer-id',
          detail: expect.stringMatching(new RegExp(`${stranger.self}.*${b.self} answered`))
        })
        expect(a.connected()).toEqual([])
        await b.stop()
        expect(await a.connect(address)).toMatchObject({
          code: 'connection-refused',
          detail: expect.stringContaining('Nothing listens')
        })
      })
    })
  })
}
