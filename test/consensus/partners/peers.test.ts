import { describe, expect, it } from 'vitest'
import type { Announcement } from '../../../src/codec/wire/messages.js'
import { MIN_ANNOUNCEMENT_INTERVAL_MS, nextSequence } from '../../../src/consensus/partners/announcement.js'
import type { PeerTable } from '../../../src/consensus/partners/peers.js'
import {
  emptyPeerTable,
  hear,
  judge,
  MAX_PEERS,
  noteExchange,
  phaseOf,
  present,
  SILENT_MS
} from '../../../src/consensus/partners/peers.js'

const federation = 'f'.repeat(64)
const announcement = (change: Partial<Announcement> = {}): Announcement => ({
  federation,
  sequence: 100,
  step: 40,
  phase: 'training',
  samples: 300,
  exchanges: 3,
  bytesSent: 5,
  bytesReceived: 7,
  software: 'peertune/0.1.0',
  ...change
})

const T0 = 1_000_000
const heard = hear(emptyPeerTable, { from: 'ann', announcement: announcement() }, { nowMs: T0, step: 12 })
const judged = (table: PeerTable, change: Partial<Announcement>, nowMs = T0 + 5_000, from = 'ann') =>
  judge(table, { from, announcement: announcement(change) }, { federation, nowMs })

describe('announcements', () => {
  it('are accepted from strangers and, with a higher sequence number, from those known', () => {
    expect(judged(emptyPeerTable, {})).toEqual({ verdict: 'accept' })
    expect(judged(heard, { sequence: 101 })).toEqual({ verdict: 'accept' })
  })

  it.each([
    ['another federation', { federation: '0'.repeat(64), sequence: 101 }, 'reject', 'announcement/other-federation'],
    ['no examples', { samples: 0, sequence: 101 }, 'reject', 'announcement/absurd-samples'],
    ['absurdly many examples', { samples: 4e9, sequence: 101 }, 'reject', 'announcement/absurd-samples'],
    ['the same again', { sequence: 100 }, 'ignore', 'announcement/stale'],
    ['an older one', { sequence: 99 }, 'ignore', 'announcement/stale']
  ])('%s', (_, change, verdict, code) => {
    expect(judged(heard, change)).toMatchObject({ verdict, code })
  })

  it('come too often below the interval', () => {
    const soon = T0 + MIN_ANNOUNCEMENT_INTERVAL_MS
    expect(judged(heard, { sequence: 101 }, soon - 1)).toMatchObject({ code: 'announcement/too-frequent' })
    expect(judged(heard, { sequence: 101 }, soon)).toEqual({ verdict: 'accept' })
  })

  it('of a long silent peer count again whatever their number: its clock may have been set back', () => {
    expect(judged(heard, { sequence: 1 }, T0 + SILENT_MS - 1)).toMatchObject({ code: 'announcement/stale' })
    expect(judged(heard, { sequence: 1 }, T0 + SILENT_MS)).toEqual({ verdict: 'accept' })
  })

  it('have numbers that rise in a life and across lives', () => {
    expect(nextSequence(0, 1_790_000_000_000.7)).toBe(1_790_000_000_000)
    expect(nextSequence(1_790_000_000_000, 1_790_000_000_000)).toBe(1_790_000_000_001)
    expect(nextSequence(1_790_000_000_005, 1_789_000_000_000)).toBe(1_790_000_000_006)
  })
})

describe('the peer table', () => {
  it('is bounded: a full one takes nobody new until somebody has been silent for long', () => {
    let table = emptyPeerTable
    for (let i = 0; i < MAX_PEERS; i++)
      table = hear(table, { from: `peer-${i}`, announcement: announcement() }, { nowMs: T0 + i, step: 0 })
    expect(judged(table, {}, T0 + 5_000, 'late')).toMatchObject({ verdict: 'ignore', code: 'announcement/table-full' })
    expect(hear(table, { from: 'late', announcement: announcement() }, { nowMs: T0 + 5_000, step: 0 })).toBe(table)
    expect(judged(table, { sequence: 101 }, T0 + 5_000, 'peer-7')).toEqual({ verdict: 'accept' })

    const later = T0 + SILENT_MS
    expect(judged(table, {}, later, 'late')).toEqual({ verdict: 'accept' })
    const after = hear(table, { from: 'late', announcement: announcement() }, { nowMs: later, step: 0 })
    expect(after.records.size).toBe(MAX_PEERS)
    expect(after.records.has('peer-0')).toBe(false)
    expect(after.records.has('late')).toBe(true)
  })

  it('learns a phase from an exchange before it is announced', () => {
    expect(phaseOf(heard, 'ann')).toBe('training')
    expect(phaseOf(noteExchange(heard, { peer: 'ann', phase: 'settling' }, { nowMs: T0, step: 25 }), 'ann')).toBe(
      'settling'
    )
    expect(
      phaseOf(noteExchange(heard, { peer: 'bob', phase: 'settling' }, { nowMs: T0, step: 25 }), 'bob')
    ).toBeUndefined()
  })

  it('remembers exchanges with a bounded number of peers, the latest', () => {
    let table = emptyPeerTable
    for (let i = 0; i < MAX_PEERS + 5; i++)
      table = noteExchange(table, { peer: `p${i}`, phase: 'training' }, { nowMs: T0, step: i })
    expect(table.exchanged.size).toBe(MAX_PEERS)
    expect(table.exchanged.has('p4')).toBe(false)
    expect(table.exchanged.has('p5')).toBe(true)
  })

  it('counts the silent as absent', () => {
    expect(present(heard, T0 + SILENT_MS - 1)).toEqual(['ann'])
    expect(present(heard, T0 + SILENT_MS)).toEqual([])
  })
})
