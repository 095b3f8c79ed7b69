import { describe, expect, it } from 'vitest'
import { seededRng } from '../../../src/base/rng.js'
import { type LogEntry, replayLog } from '../../../src/consensus/exchange/exchange-log.js'
import { doubtWith, emptyJournal, fateOf } from '../../../src/consensus/exchange/journal.js'
import { addInto } from '../../../src/tensor/linear.js'
import { machineNetwork } from './machines.js'

const SIZE = 5
const PEERS = 4
const vector = (...seed: (string | number)[]) => {
  const rng = seededRng(...seed)
  return Float32Array.from({ length: SIZE }, () => rng.uniform() - 0.5)
}

/** A chaotic life of four machines: exchanges, cuts and repetitions at random. */
function live(seed: number) {
  const network = machineNetwork({
    weights: [3, 5, 2, 7],
    reference: vector('x0'),
    starts: Array.from({ length: PEERS }, (_, i) => vector('start', i)),
    codec: 'float32'
  })
  const rng = seededRng('life', seed)
  for (let turn = 0; turn < 60; turn++) {
    const [a, b] = rng.shuffle(Array.from({ length: PEERS }, (_, i) => i))
    if (rng.integer(3) === 0 && network.states[a!]!.active === undefined) network.initiate(a!, b!)
    const waiting = network.pending()
    if (waiting.length > 0) network.deliver(...waiting[rng.integer(waiting.length)]!)
    const open = network.openLinks()
    if (open.length > 0 && rng.integer(12) === 0) network.cut(open[rng.integer(open.length)]!, rng)
  }
  return network
}

describe('replaying the exchange log', () => {
  it('gives back the doubts, what became of them and the parameters of every machine, whatever happened', () => {
    let exchanges = 0
    for (let seed = 0; seed < 40; seed++) {
      const network = live(seed)
      network.states.forEach((state, machine) => {
        const entries = network.log.flatMap((one) =>
          one.machine === machine && one.effect.type === 'record' ? [one.effect.entry] : []
        )
        const [journal, made] = replayLog(emptyJournal, entries)
        exchanges += made.length
        expect(journal.inDoubt).toEqual(state.journal.inDoubt)
        for (const [peer, ids] of state.journal.accepted)
          for (const { exchangeId, committed } of ids)
            expect(fateOf(journal, peer, exchangeId)).toBe(committed ? 'committed' : 'undone')
        const parameters = vector('start', machine)
        for (const { increment } of made) addInto(increment, parameters)
        expect(parameters).toEqual(network.parameters[machine])
      })
    }
    expect(exchanges).toBeGreaterThan(200)
  })

  it('keeps an exchange in doubt when its settlement is lost, and applies it once when it is there', () => {
    const about = { exchangeId: 'e1', peer: 'peer-b', partnerPhase: 'training' as const, increment: vector('inc') }
    const doubt: LogEntry = { kind: 'in-doubt', ...about }
    const settled: LogEntry = { kind: 'settled', exchangeId: 'e1', peer: 'peer-b', fate: 'committed' }
    const [waiting, none] = replayLog(emptyJournal, [doubt])
    expect(doubtWith(waiting, 'peer-b')).toEqual(about)
    expect(none).toEqual([])
    const [done, made] = replayLog(waiting, [settled, settled])
    expect(done.inDoubt).toEqual([])
    expect(made).toEqual([{ ...about, role: 'initiator' }])
  })

  it('drops an exchange that was undone', () => {
    const about = { exchangeId: 'e2', peer: 'peer-c', partnerPhase: 'settling' as const, increment: vector('inc') }
    const undone: LogEntry = { kind: 'settled', exchangeId: 'e2', peer: 'peer-c', fate: 'undone' }
    expect(replayLog(emptyJournal, [{ kind: 'in-doubt', ...about }, undone])).toEqual([emptyJournal, []])
  })
})
