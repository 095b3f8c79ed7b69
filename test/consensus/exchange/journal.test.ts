import { describe, expect, it } from 'vitest'
import type { Journal } from '../../../src/consensus/exchange/journal.js'
import {
  doubtWith,
  emptyJournal,
  enterDoubt,
  fateOf,
  journalDocument,
  leaveDoubt,
  MAX_ACCEPTED_PER_PEER,
  MAX_IN_DOUBT,
  MAX_REMEMBERED_PEERS,
  noteAccepted,
  noteCommitted,
  restoreJournal,
  wasAccepted
} from '../../../src/consensus/exchange/journal.js'

const doubt = (peer: string, value = 0.5) => ({
  exchangeId: `${peer}-exchange`,
  peer,
  partnerPhase: 'training' as const,
  increment: Float32Array.of(value, -3)
})

const enter = (journal: Journal, peer: string, value?: number): Journal => enterDoubt(journal, doubt(peer, value))[0]

describe('the journal', () => {
  it('keeps and settles a doubt', () => {
    const journal = enter(enter(emptyJournal, 'ann'), 'bob')
    const record = doubtWith(journal, 'ann')!
    expect(record.exchangeId).toBe('ann-exchange')
    const after = leaveDoubt(journal, record)
    expect(doubtWith(after, 'ann')).toBeUndefined()
    expect(doubtWith(after, 'bob')).toBeDefined()
  })

  it('forgets the oldest doubt beyond its bound and says which', () => {
    let journal = emptyJournal
    for (let i = 0; i < MAX_IN_DOUBT; i++) journal = enter(journal, `peer-${i}`)
    const [after, forgotten] = enterDoubt(journal, doubt('late'))
    expect(after.inDoubt.length).toBe(MAX_IN_DOUBT)
    expect(forgotten.map((record) => record.peer)).toEqual(['peer-0'])
    expect(doubtWith(after, 'late')).toBeDefined()
  })

  it('answers committed for what was committed with that very peer, undone for all else', () => {
    const journal = noteCommitted(noteAccepted(noteAccepted(emptyJournal, 'ann', 'x'), 'ann', 'y'), 'ann', 'x')
    expect(fateOf(journal, 'ann', 'x')).toBe('committed')
    expect(fateOf(journal, 'ann', 'y')).toBe('undone')
    expect(fateOf(journal, 'ann', 'z')).toBe('undone')
    expect(fateOf(journal, 'bob', 'x')).toBe('undone')
    expect([wasAccepted(journal, 'ann', 'y'), wasAccepted(journal, 'bob', 'y')]).toEqual([true, false])
  })

  it('remembers a bounded number of ids and peers, the latest', () => {
    let journal = emptyJournal
    for (let i = 0; i <= MAX_ACCEPTED_PER_PEER; i++)
      journal = noteCommitted(noteAccepted(journal, 'ann', `id-${i}`), 'ann', `id-${i}`)
    expect(fateOf(journal, 'ann', 'id-0')).toBe('undone')
    expect(fateOf(journal, 'ann', 'id-1')).toBe('committed')
    for (let i = 0; i < MAX_REMEMBERED_PEERS; i++) {
      journal = noteAccepted(journal, `peer-${i}`, 'id')
      // Ann keeps calling, so the longest silent goes, and that is not she.
      if (i % 100 === 0) journal = noteCommitted(journal, 'ann', `id-${MAX_ACCEPTED_PER_PEER}`)
    }
    expect(journal.accepted.size).toBe(MAX_REMEMBERED_PEERS)
    expect(fateOf(journal, 'ann', `id-${MAX_ACCEPTED_PER_PEER}`)).toBe('committed')
    expect(wasAccepted(journal, 'peer-0', 'id')).toBe(false)
  })

  it('survives JSON and named tensors', () => {
    const journal = noteCommitted(noteAccepted(enter(enter(emptyJournal, 'ann'), 'bob', 7), 'carl', 'x'), 'carl', 'x')
    const { json, tensors } = journalDocument(journal)
    expect(Object.keys(tensors)).toEqual(['in-doubt.ann-exchange', 'in-doubt.bob-exchange'])
    expect(restoreJournal({ json: JSON.parse(JSON.stringify(json)), tensors }, 2)).toEqual(journal)
  })

  it('is not restored with an increment missing or of another size', () => {
    const { json, tensors } = journalDocument(enter(emptyJournal, 'ann'))
    const wrong = expect.objectContaining({ code: 'consensus/bad-journal' })
    expect(() => restoreJournal({ json, tensors: {} }, 2)).toThrow(wrong)
    expect(() => restoreJournal({ json, tensors }, 3)).toThrow(wrong)
  })
})
