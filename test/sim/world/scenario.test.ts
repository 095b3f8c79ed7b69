import { describe, expect, it } from 'vitest'
import { readScenario } from '../../../src/sim/world/scenario.js'

describe('reading a scenario', () => {
  it('fills in defaults', () => {
    const { peers, mixing, network, partitions } = readScenario({ peers: 3 })
    expect([peers, mixing.codec, network.loss, partitions]).toEqual([3, 'int8', 0, []])
  })

  it.each([
    [{ peers: 1 }, 'peers: expected a whole number from 2 to 100000, got 1'],
    [{ peers: 2.5 }, 'peers: expected a whole number'],
    [{ network: { loss: 1.5 } }, 'network.loss: expected a number from 0 to 1, got 1.5'],
    [{ network: { los: 0.1 } }, 'network.los: expected one of latencyMs'],
    [{ network: { latencyMs: [80, 20] } }, 'network.latencyMs: expected two numbers'],
    [{ partitions: [{ atMs: 1 }, { atMs: 'x' }] }, 'partitions[1].atMs: expected a whole number'],
    [{ attackers: [{ attack: 'bribery' }] }, 'attackers[0].attack: expected one of sign-flip'],
    [{ peers: 4, attackers: [{ attack: 'silence', count: 3 }] }, 'attackers: expected at least two honest peers'],
    [{ mixing: { codec: 'powergossip' } }, 'mixing.codec: expected a codec for plain vectors'],
    [7, 'scenario: expected a section']
  ])('%j is refused: %s', (value, message) => {
    expect(() => readScenario(value)).toThrow(message)
  })
})
