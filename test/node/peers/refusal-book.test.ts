import { describe, expect, it } from 'vitest'
import { ignore, reject } from '../../../src/base/verdict.js'
import {
  BAN_MS,
  createRefusalBook,
  MAX_REMEMBERED_OFFENDERS,
  REJECTS_BEFORE_BAN
} from '../../../src/node/peers/refusal-book.js'

function bookAt(startMs: number) {
  const bans: [string, number][] = []
  const clock = { now: startMs }
  const book = createRefusalBook({ ban: (peer, forMs) => bans.push([peer, forMs]), now: () => clock.now })
  return { bans, clock, book }
}

describe('the refusal book', () => {
  it('bans after ten rejects, says why, and begins to count anew', () => {
    const { bans, clock, book } = bookAt(5000)
    for (let i = 1; i < REJECTS_BEFORE_BAN; i++) book.note('mallory', reject('codec/malformed'))
    expect(bans).toEqual([])
    clock.now = 6000
    book.note('mallory', reject('exchange/over-byte-budget', 'more than 9 bytes a minute'))
    expect(bans).toEqual([['mallory', BAN_MS]])
    expect(book.offences().get('mallory')).toEqual({
      code: 'exchange/over-byte-budget',
      detail: 'more than 9 bytes a minute',
      atMs: 6000,
      rejects: 0,
      bannedUntilMs: 6000 + BAN_MS
    })
    book.note('mallory', reject('codec/malformed'))
    expect(book.offences().get('mallory')).toMatchObject({ rejects: 1, bannedUntilMs: 6000 + BAN_MS })
    expect(book.byPeer().get('mallory')).toEqual({ 'codec/malformed': 10, 'exchange/over-byte-budget': 1 })
  })

  it('shows a ban that the transport has made, and makes none itself', () => {
    const { bans, book } = bookAt(1000)
    book.note('mallory', reject('codec/malformed'))
    book.banned('mallory', reject('gossip/flood'), 70)
    expect(bans).toEqual([])
    expect(book.offences().get('mallory')).toEqual({
      code: 'gossip/flood',
      atMs: 1000,
      rejects: 0,
      bannedUntilMs: 1070
    })
    expect(book.byPeer().get('mallory')).toEqual({ 'codec/malformed': 1, 'gossip/flood': 1 })
  })

  it('counts what it ignores and holds it against nobody', () => {
    const { bans, book } = bookAt(0)
    for (let i = 0; i < 50; i++) book.note('slow', ignore('exchange/timeout'))
    expect(bans).toEqual([])
    expect(book.offences().size).toBe(0)
    expect(book.byPeer().get('slow')).toEqual({ 'exchange/timeout': 50 })
  })

  it('remembers a bounded number of peers', () => {
    const { book } = bookAt(0)
    for (let i = 0; i <= MAX_REMEMBERED_OFFENDERS; i++) book.note(`peer-${i}`, reject('codec/malformed'))
    expect(book.byPeer().size).toBe(MAX_REMEMBERED_OFFENDERS)
    expect(book.offences().has('peer-0')).toBe(false)
  })
})
