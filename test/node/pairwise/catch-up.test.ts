import { describe, expect, it } from 'vitest'
import { silentLogger } from '../../../src/base/log.js'
import { seededRng } from '../../../src/base/rng.js'
import { decoded, ignore, refused } from '../../../src/base/verdict.js'
import { GATHER_MS } from '../../../src/consensus/catch-up/catch-up.js'
import { GATHER_RETRY_MS, PLACE_TIMEOUT_MS } from '../../../src/consensus/catch-up/course.js'
import { initialRounds } from '../../../src/consensus/rounds.js'
import { codecByName } from '../../../src/codec/registry.js'
import type { PeerTable } from '../../../src/consensus/partners/peers.js'
import { type CatchUpParts, createCatchUp } from '../../../src/node/pairwise/catch-up.js'
import { createVirtualClock } from '../../gossip/virtual-clock.js'

const SIZE = 4

/** A newcomer at step 12 of rounds of four, and others at these steps; those without one do not answer. */
function newcomer(others: Record<string, number | undefined>) {
  const clock = createVirtualClock()
  const live = new Float32Array(SIZE)
  const asked: string[] = []
  const parts: CatchUpParts = {
    config: {
      self: 'me',
      federation: 'f',
      schema: { hash: '5', size: SIZE },
      reference: new Float32Array(SIZE),
      codec: codecByName('float32'),
      gamma: 1,
      weight: 10,
      incarnation: 'life',
      localSteps: 4
    },
    reader: {
      async askPlace(peer) {
        asked.push(peer)
        const step = others[peer]
        if (step !== undefined) return decoded({ phase: 'training', step, weight: 10 })
        await clock.sleep(PLACE_TIMEOUT_MS)
        return refused(ignore('state/no-answer'))
      },
      ask: async (peer) =>
        decoded({
          phase: 'training',
          step: others[peer]!,
          weight: 10,
          vector: new Float32Array(SIZE).fill(others[peer]!)
        })
    },
    membership: { members: () => Object.keys(others), table: () => ({ exchanged: new Map() }) as unknown as PeerTable },
    driver: { oddOneOut: () => false, moved: () => undefined },
    holder: {
      parameters: () => live,
      add: (increment) =>
        increment.forEach((value, i) => {
          live[i]! += value
        })
    },
    rounds: () => ({ ...initialRounds, step: 12, exchanges: 1 }),
    clock,
    rng: seededRng('newcomer'),
    log: silentLogger
  }
  return { clock, live, asked, catchUp: createCatchUp(parts) }
}

describe('a newcomer', () => {
  it('looks again when the first it has met is as new as it is, and exchanges meanwhile', async () => {
    const others: Record<string, number> = { twin: 0 }
    const { clock, live, catchUp } = newcomer(others)
    const began = clock.now()
    expect(catchUp.due()).toBe('newcomer')
    expect(await catchUp.run('newcomer')).toBe('stayed')
    // No time has passed, and the next attempt is an exchange.
    expect([clock.now(), catchUp.due()]).toEqual([began, undefined])
    Object.assign(others, { ada: 90, bob: 91, cas: 92 })
    await clock.advance(GATHER_RETRY_MS)
    expect(catchUp.due()).toBe('newcomer')
    expect(await catchUp.run('newcomer')).toBe('moved')
    expect(catchUp.due()).toBeUndefined()
    // The middle of 0, 90, 91 and 92, without the one that is far from the rest.
    expect([...live]).toEqual([91, 91, 91, 91])
  })

  it('asks those again that did not answer, once, and then takes its place for the right one', async () => {
    const { clock, asked, catchUp } = newcomer({ ada: undefined, bob: undefined, cas: undefined })
    const began = clock.now()
    let looks = 0
    for (; clock.now() < began + 10 * GATHER_MS; await clock.advance(GATHER_RETRY_MS)) {
      const reason = catchUp.due()
      if (reason === undefined) continue
      looks++
      const outcome = catchUp.run(reason)
      await clock.advance(PLACE_TIMEOUT_MS)
      expect(await outcome).toBe('stayed')
    }
    expect(looks).toBe(2)
    expect(asked.length).toBe(6)
  })
})
