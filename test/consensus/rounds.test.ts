import { describe, expect, it } from 'vitest'
import type { RoundsConfig, RoundsState, Surroundings } from '../../src/consensus/rounds.js'
import {
  ALONE_WAIT_MS,
  exchangeMade,
  initialRounds,
  nextMove,
  SETTLE_PATIENCE_MS,
  SETTLE_WAIT_MS,
  stepTaken,
  suits,
  waited
} from '../../src/consensus/rounds.js'

const config: RoundsConfig = { localSteps: 10, totalSteps: 100, settleExchanges: 3, isolationFactor: 4 }
const company: Surroundings = { peersKnown: true, othersTraining: false, waitedMs: 0, inDoubt: false }
const nobody: Surroundings = { peersKnown: false, othersTraining: false, waitedMs: 0, inDoubt: false }

const steps = (state: RoundsState, count: number): RoundsState =>
  Array.from({ length: count }).reduce<RoundsState>((at) => stepTaken(at, config), state)

const settling = steps(initialRounds, 100)
const done: RoundsState = { ...settling, phase: 'done' }

describe('training', () => {
  it('an exchange is due ten local steps after the last one in either role', () => {
    expect(nextMove(steps(initialRounds, 9), company, config)).toEqual({ train: true, exchange: false, resolve: false })
    expect(nextMove(steps(initialRounds, 10), company, config)).toEqual({ train: true, exchange: true, resolve: false })
    const mixed = exchangeMade(steps(initialRounds, 17), 'training', config)
    expect(nextMove(steps(mixed, 9), company, config)).toEqual({ train: true, exchange: false, resolve: false })
    expect(nextMove(steps(mixed, 10), company, config)).toEqual({ train: true, exchange: true, resolve: false })
    expect(mixed).toMatchObject({ exchanges: 1, settled: 0, lastExchangeStep: 17 })
  })

  it('waits at four times that without an exchange, unless it knows nobody', () => {
    const alone = steps(initialRounds, 40)
    expect(nextMove(steps(initialRounds, 39), company, config).train).toBe(true)
    expect(nextMove(alone, company, config)).toEqual({ train: false, exchange: true, resolve: false })
    expect(nextMove(alone, nobody, config)).toEqual({ train: true, exchange: false, resolve: false })
    expect(nextMove(exchangeMade(alone, 'training', config), company, config)).toEqual({
      train: true,
      exchange: false,
      resolve: false
    })
  })

  it('settles with its last step', () => {
    expect(steps(initialRounds, 99).phase).toBe('training')
    expect(settling.phase).toBe('settling')
    expect(settling.step).toBe(100)
  })
})

describe('settling', () => {
  it('never trains; exchanges once nobody trains any more, or patience is at an end', () => {
    expect(nextMove(settling, company, config)).toEqual({ train: false, exchange: true, resolve: false })
    const doubting = { ...company, inDoubt: true }
    expect(nextMove(settling, doubting, config)).toEqual({ train: false, exchange: true, resolve: false })
    expect(nextMove(settling, { ...doubting, othersTraining: true }, config).resolve).toBe(true)
    expect(nextMove(settling, { ...company, othersTraining: true }, config).exchange).toBe(false)
    expect(
      nextMove(settling, { ...company, othersTraining: true, waitedMs: SETTLE_PATIENCE_MS }, config).exchange
    ).toBe(true)
    expect(nextMove(settling, nobody, config)).toEqual({ train: false, exchange: false, resolve: false })
  })

  it('counts exchanges with the settling and the done, not with those that train', () => {
    let state = exchangeMade(settling, 'training', config)
    expect(state).toMatchObject({ settled: 0, exchanges: 1, phase: 'settling' })
    state = exchangeMade(exchangeMade(state, 'settling', config), 'done', config)
    expect(state).toMatchObject({ settled: 2, phase: 'settling' })
    expect(exchangeMade(state, 'settling', config)).toMatchObject({ settled: 3, exchanges: 4, phase: 'done' })
  })

  it('ends after a bounded wait, sooner where nobody is known', () => {
    expect(waited(settling, { waitedMs: SETTLE_WAIT_MS - 1, peersKnown: true }, config).phase).toBe('settling')
    expect(waited(settling, { waitedMs: SETTLE_WAIT_MS, peersKnown: true }, config).phase).toBe('done')
    expect(waited(settling, { waitedMs: ALONE_WAIT_MS - 1, peersKnown: false }, config).phase).toBe('settling')
    expect(waited(settling, { waitedMs: ALONE_WAIT_MS, peersKnown: false }, config).phase).toBe('done')
    const training = steps(initialRounds, 5)
    expect(waited(training, { waitedMs: 1e9, peersKnown: true }, config)).toBe(training)
  })

  it('of no exchanges is over at once', () => {
    expect(waited(settling, { waitedMs: 0, peersKnown: true }, { ...config, settleExchanges: 0 }).phase).toBe('done')
  })
})

describe('done', () => {
  it('does nothing by itself and stays done through other peoples exchanges', () => {
    expect(nextMove(done, company, config)).toEqual({ train: false, exchange: false, resolve: false })
    expect(nextMove(done, { ...company, inDoubt: true }, config)).toEqual({
      train: false,
      exchange: false,
      resolve: true
    })
    expect(exchangeMade(done, 'settling', config)).toMatchObject({ phase: 'done', exchanges: 1 })
  })
})

describe('whom to call', () => {
  it.each([
    ['training', undefined, true],
    ['training', 'training', true],
    ['training', 'settling', true],
    ['training', 'done', false],
    ['settling', undefined, false],
    ['settling', 'training', false],
    ['settling', 'settling', true],
    ['settling', 'done', true]
  ] as const)('%s calls %s: %s', (own, other, expected) => {
    expect(suits(own, other)).toBe(expected)
  })
})
