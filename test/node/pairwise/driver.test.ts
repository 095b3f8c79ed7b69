import { describe, expect, it } from 'vitest'
import { seededRng } from '../../../src/base/rng.js'
import { codecByName } from '../../../src/codec/registry.js'
import { restoreJournal } from '../../../src/consensus/exchange/journal.js'
import { EXCHANGE_PROTOCOL } from '../../../src/gossip/topics.js'
import { distance2, weightedMean } from '../../../src/tensor/linear.js'
import type { Member } from './exchange-world.js'
import { exchangeWorld, randomVector, SIZE } from './exchange-world.js'

const meanOf = (members: readonly Member[]): Float64Array =>
  weightedMean(
    members.map((member) => member.live),
    members.map((member) => member.weight)
  )

const relativeDrift = (before: Float64Array, after: Float64Array): number =>
  Math.hypot(...before.map((value, i) => value - after[i]!)) / Math.hypot(...before)

/** Root of the summed squared distances from the weighted mean. */
function spreadOf(members: readonly Member[]): number {
  const mean = Float32Array.from(meanOf(members))
  return Math.hypot(...members.map((member) => distance2(member.live, mean)))
}

async function pair(seed: string) {
  const world = exchangeWorld({ seed })
  const [a, b] = [await world.member('a', 3), await world.member('b', 5)]
  await world.network.connectAll()
  return { ...world, a, b }
}

describe('the exchange driver', () => {
  it('makes an exchange, tells both owners and counts its bytes', async () => {
    const { a, b } = await pair('one')
    b.phase.now = 'settling'
    const before = meanOf([a, b])
    expect(await a.driver.exchangeWith('b')).toEqual({ kind: 'committed' })
    expect(relativeDrift(before, meanOf([a, b]))).toBeLessThan(1e-7)
    expect(a.committed).toMatchObject([{ peer: 'b', role: 'initiator', partnerPhase: 'settling' }])
    expect(b.committed).toMatchObject([{ peer: 'a', role: 'responder', partnerPhase: 'training' }])
    expect(a.driver.lastExchange('b')?.role).toBe('initiator')
    expect(a.driver.busy()).toBe(false)
    const payload = codecByName('int8').encodedBytes(SIZE)
    const { bytesSent, bytesReceived, committed } = a.driver.stats()
    expect(committed).toBe(1)
    for (const bytes of [bytesSent, bytesReceived]) {
      expect(bytes).toBeGreaterThan(payload)
      expect(bytes).toBeLessThan(payload + 400)
    }
    expect(b.driver.stats()).toMatchObject({ bytesSent: bytesReceived, bytesReceived: bytesSent })
  })

  it('two that call each other at once make one exchange', async () => {
    const { a, b } = await pair('mutual')
    const outcomes = await Promise.all([a.driver.exchangeWith('b'), b.driver.exchangeWith('a')])
    expect(outcomes.map((outcome) => outcome.kind).toSorted()).toEqual(['committed', 'yielded'])
    expect([a.committed.length, b.committed.length]).toEqual([1, 1])
  })

  it('says so when the partner is of another federation, and the partner counts it', async () => {
    const { network, member } = exchangeWorld({ seed: 'other' })
    const [a, b] = [await member('a', 3), await member('b', 5)]
    Object.assign(b.config, { federation: '0'.repeat(64) })
    await network.connectAll()
    const before = [a.live.slice(), b.live.slice()]
    expect(await a.driver.exchangeWith('b')).toEqual({ kind: 'refused', code: 'other-federation' })
    expect(a.driver.stats().refusedByOthers).toEqual({ 'other-federation': 1 })
    expect(b.driver.stats().refusedByUs).toEqual({ 'other-federation': 1 })
    expect(b.verdicts).toMatchObject([{ peer: 'a', verdict: { code: 'exchange/other-federation' } }])
    expect([a.live, b.live]).toEqual(before)
  })

  it('reports a peer it is not connected to', async () => {
    const { a } = await pair('unreachable')
    expect(await a.driver.exchangeWith('nobody')).toEqual({ kind: 'unreachable', code: 'gossip/not-connected' })
    expect(a.driver.busy()).toBe(false)
  })

  it('rejects on parameters of our own that cannot be sent, in either role, and is free again', async () => {
    const { a, b } = await pair('diverged')
    const held = a.live[7]!
    a.live[7] = Number.NaN
    await expect(a.driver.exchangeWith('b')).rejects.toMatchObject({ code: 'codec/not-finite' })
    await expect.poll(() => b.driver.busy()).toBe(false)
    expect(await b.driver.exchangeWith('a')).toEqual({ kind: 'failed', code: 'exchange/broken-link' })
    await expect.poll(() => a.driver.busy()).toBe(false)
    expect([a.driver.busy(), b.driver.busy()]).toEqual([false, false])
    a.live[7] = held
    expect(await a.driver.exchangeWith('b')).toEqual({ kind: 'committed' })
  })

  it('refuses more HELLOs than its rate allows', async () => {
    const { network, member } = exchangeWorld({ seed: 'rate', limits: { helloBurst: 2, hellosPerSecond: 0 } })
    const [a] = [await member('a', 3), await member('b', 5)]
    await network.connectAll()
    const outcomes = []
    for (let i = 0; i < 3; i++) outcomes.push(await a.driver.exchangeWith('b'))
    expect(outcomes).toEqual([{ kind: 'committed' }, { kind: 'committed' }, { kind: 'refused', code: 'rate-limited' }])
  })

  it('stops: breaks what is open, refuses what is new', async () => {
    const { a, b } = await pair('stop')
    await Promise.all([b.driver.stop(), b.driver.stop()])
    expect(await a.driver.exchangeWith('b')).toEqual({ kind: 'refused', code: 'leaving' })
    expect(await b.driver.exchangeWith('a')).toEqual({ kind: 'refused', code: 'leaving' })
  })
})

describe('a link cut at every frame', () => {
  // The initiator sends HELLO, COMMIT and one chunk; the responder ACCEPT, one chunk and ACK.
  it.each([
    ['a', 0, 'failed', 0],
    ['b', 0, 'failed', 0],
    ['b', 1, 'failed', 0],
    ['a', 1, 'in-doubt', 0],
    ['a', 2, 'in-doubt', 0],
    ['b', 2, 'in-doubt', 1]
  ] as const)(
    '%s after %i frames: %s, then settled with the next exchange',
    async (from, afterFrames, kind, happened) => {
      const { network, a, b } = await pair(`cut ${from} ${afterFrames}`)
      const before = meanOf([a, b])
      network.cut({ from, to: from === 'a' ? 'b' : 'a', protocol: EXCHANGE_PROTOCOL, afterFrames })
      expect((await a.driver.exchangeWith('b')).kind).toBe(kind)
      await expect.poll(() => b.driver.busy()).toBe(false)
      expect([a.committed.length, b.committed.length]).toEqual([0, happened])
      expect(await (afterFrames === 2 ? b.driver.exchangeWith('a') : a.driver.exchangeWith('b'))).toEqual({
        kind: 'committed'
      })
      expect([a.committed.length, b.committed.length]).toEqual([1 + happened, 1 + happened])
      expect(a.driver.inDoubt()).toEqual([])
      expect(relativeDrift(before, meanOf([a, b]))).toBeLessThan(1e-7)
    }
  )

  it('a doubt survives a restart in the checkpoint', async () => {
    const { network, member } = exchangeWorld({ seed: 'restart' })
    const [a, b] = [await member('a', 3), await member('b', 5)]
    await network.connectAll()
    const before = meanOf([a, b])
    network.cut({ from: 'b', to: 'a', afterFrames: 2 })
    await a.driver.exchangeWith('b')
    const document = a.driver.journal()
    await a.driver.stop()
    await a.transport.stop()
    const saved = restoreJournal({ json: JSON.parse(JSON.stringify(document.json)), tensors: document.tensors }, SIZE)

    const again = await member('a', 3, saved)
    again.live.set(a.live)
    Object.assign(again.config, { incarnation: 'second life of a' })
    await again.transport.connect(b.transport.addresses()[0]!)
    expect(again.driver.inDoubt()).toEqual(['b'])
    expect(await again.driver.exchangeWith('b')).toEqual({ kind: 'committed' })
    expect(again.committed.length).toBe(2)
    expect(relativeDrift(before, meanOf([again, b]))).toBeLessThan(1e-7)
  })
})

describe('eight peers of unequal weight, 200 exchanges, one in five cut at a random frame', () => {
  it('lose nothing: the weighted mean stays, nobody is half applied, disagreement shrinks', async () => {
    const { network, member } = exchangeWorld({ seed: 'nothing lost' })
    const weights = [40, 350, 7, 120, 900, 65, 210, 15]
    const members: Member[] = []
    for (const [i, weight] of weights.entries()) members.push(await member(`peer-${i}`, weight))
    await network.connectAll()
    network.setFaults({ channelCut: { probability: 0.2, withinFrames: 3 } })

    const rng = seededRng('schedule')
    const expected = meanOf(members)
    const total = weights.reduce((sum, weight) => sum + weight, 0)
    const spreadBefore = spreadOf(members)
    const outcomes: Record<string, number> = {}
    let rounds = 0
    // Calls answered with `busy` or given up for another's are no exchanges.
    const made = () => (outcomes.committed ?? 0) + (outcomes['in-doubt'] ?? 0) + (outcomes.failed ?? 0)
    while (made() < 200) {
      // Two or three peers start at once, as in a network; local training goes on meanwhile, here as known noise.
      const starters = rng.shuffle(members).slice(0, 2 + rng.integer(2))
      const tries = starters.map((one) => {
        const others = members.filter((other) => other !== one)
        return one.driver.exchangeWith(others[rng.integer(others.length)]!.name)
      })
      const trainer = rng.integer(members.length)
      const step = randomVector(0.02, 'step', rounds++)
      members[trainer]!.live.forEach((value, i) => {
        const after = Math.fround(value + step[i]!)
        members[trainer]!.live[i] = after
        expected[i] = expected[i]! + (weights[trainer]! / total) * (after - value)
      })
      for (const { kind } of await Promise.all(tries)) outcomes[kind] = (outcomes[kind] ?? 0) + 1
    }
    expect(outcomes['in-doubt']).toBeGreaterThan(10)
    expect(outcomes.failed).toBeGreaterThan(10)

    network.setFaults({})
    for (const one of members)
      while (one.driver.inDoubt().length > 0) await one.driver.exchangeWith(one.driver.inDoubt()[0]!)
    expect(members.every((one) => !one.driver.busy())).toBe(true)

    // Both or neither: every exchange has one initiator and one responder.
    const roles = members.flatMap((one) => one.committed.map(({ peer, role }) => ({ from: one.name, peer, role })))
    const pairs = (role: string) =>
      roles
        .filter((entry) => entry.role === role)
        .map(({ from, peer }) => (role === 'initiator' ? `${from}>${peer}` : `${peer}>${from}`))
        .toSorted()
    expect(pairs('initiator')).toEqual(pairs('responder'))

    const drift = relativeDrift(expected, meanOf(members))
    expect(drift).toBeLessThan(1e-5)
    expect(spreadOf(members) / spreadBefore).toBeLessThan(0.2)
  })
})
