import { describe, expect, it } from 'vitest'
import { seededRng } from '../../../src/base/rng.js'
import type { PartnerState } from '../../../src/consensus/partners/partner.js'
import {
  BACKOFF_MS,
  BUSY_BACKOFF_MS,
  choosePartner,
  initialPartnerState,
  MAX_BACKOFF_MS,
  MAX_BACKOFFS,
  noteAttempt,
  REFRESH_EXCHANGES,
  VIEW_SIZE
} from '../../../src/consensus/partners/partner.js'

const names = (count: number): string[] => Array.from({ length: count }, (_, i) => `peer-${i}`)
const rng = () => seededRng('partner')
const ask = (
  state: PartnerState,
  candidates: readonly string[],
  nowMs = 0,
  inDoubt: readonly string[] = [],
  random = rng()
) => choosePartner(state, { candidates, inDoubt, nowMs, rng: random })

describe('the view', () => {
  it('holds at most eight, all of them candidates, and the partner is one of them', () => {
    const [state, partner] = ask(initialPartnerState, names(30))
    expect(new Set(state.view).size).toBe(VIEW_SIZE)
    expect(names(30)).toEqual(expect.arrayContaining([...state.view]))
    expect(state.view).toContain(partner)
  })

  it('keeps its entries between refreshes and replaces exactly one when it is time', () => {
    let [state] = ask(initialPartnerState, names(30))
    const first = state.view
    for (let i = 0; i < REFRESH_EXCHANGES; i++) {
      ;[state] = ask(state, names(30))
      expect(state.view).toEqual(first)
      state = noteAttempt(state, { peer: first[i % 8]!, result: 'committed' }, { nowMs: 0, rng: rng() })
    }
    ;[state] = ask(state, names(30))
    expect(state.view.filter((peer) => first.includes(peer)).length).toBe(VIEW_SIZE - 1)
    expect(state.view.length).toBe(VIEW_SIZE)
    expect(state.sinceRefresh).toBe(0)
  })

  it('drops who is gone and fills up', () => {
    const [state] = ask(initialPartnerState, names(9))
    const left = names(9).filter((peer) => peer !== state.view[3])
    expect(ask(state, left)[0].view.toSorted()).toEqual(left.toSorted())
  })

  it('draws everybody about equally often in the long run', () => {
    const random = seededRng('fair')
    const counts = new Map<string, number>()
    let state = initialPartnerState
    for (let i = 0; i < 20_000; i++) {
      const [next, partner] = ask(state, names(20), 0, [], random)
      counts.set(partner!, (counts.get(partner!) ?? 0) + 1)
      state = noteAttempt(next, { peer: partner!, result: 'committed' }, { nowMs: 0, rng: random })
    }
    for (const count of counts.values()) expect(count).toBeGreaterThan(500)
    expect(counts.size).toBe(20)
  })

  it('gives nobody where nobody is', () => {
    expect(ask(initialPartnerState, [])[1]).toBeUndefined()
  })

  it('is the same again for the same seed', () => {
    expect(ask(initialPartnerState, names(30))).toEqual(ask(initialPartnerState, names(30)))
  })
})

describe('back-off', () => {
  const failed = (state: PartnerState, nowMs: number) =>
    noteAttempt(state, { peer: 'peer-0', result: 'failed' }, { nowMs, rng: rng() })

  it('doubles with every failure in a row up to its bound, and ends with a success', () => {
    let state = initialPartnerState
    for (const wait of [1, 2, 4, 8, 16, 32, 60, 60]) {
      state = failed(state, 5_000)
      const until = 5_000 + Math.min(MAX_BACKOFF_MS, wait * BACKOFF_MS)
      expect(ask(state, ['peer-0'], until - 1)[1]).toBeUndefined()
      expect(ask(state, ['peer-0'], until)[1]).toBe('peer-0')
    }
    state = failed(noteAttempt(state, { peer: 'peer-0', result: 'committed' }, { nowMs: 0, rng: rng() }), 5_000)
    expect(ask(state, ['peer-0'], 5_000 + BACKOFF_MS)[1]).toBe('peer-0')
  })

  it('leaves a busy peer alone for a moment only, and does not count it as a failure', () => {
    const state = noteAttempt(initialPartnerState, { peer: 'peer-0', result: 'busy' }, { nowMs: 0, rng: rng() })
    expect(ask(state, ['peer-0'], BUSY_BACKOFF_MS - 1)[1]).toBeUndefined()
    expect(ask(state, ['peer-0'], 2 * BUSY_BACKOFF_MS)[1]).toBe('peer-0')
    expect(ask(failed(state, 0), ['peer-0'], BACKOFF_MS)[1]).toBe('peer-0')
  })

  it('passes over the resting and takes another', () => {
    const state = failed(initialPartnerState, 0)
    for (let i = 0; i < 20; i++) expect(ask(state, ['peer-0', 'peer-1'], 0, [], seededRng('skip', i))[1]).toBe('peer-1')
  })

  it('is remembered for a bounded number of peers', () => {
    let state = initialPartnerState
    for (const peer of names(MAX_BACKOFFS + 50))
      state = noteAttempt(state, { peer, result: 'failed' }, { nowMs: 0, rng: rng() })
    expect(state.backoffs.size).toBe(MAX_BACKOFFS)
  })
})

describe('a peer in doubt', () => {
  it('comes first, in the view or not, a candidate or not, if it is rested', () => {
    const [state] = ask(initialPartnerState, names(30))
    const outsider = names(30).find((peer) => !state.view.includes(peer))!
    expect(ask(state, names(30), 0, [outsider])[1]).toBe(outsider)
    expect(ask(state, [], 0, [outsider])[1]).toBe(outsider)
    const resting = noteAttempt(state, { peer: outsider, result: 'failed' }, { nowMs: 0, rng: rng() })
    expect(ask(resting, names(30), 0, [outsider])[1]).not.toBe(outsider)
  })
})
