import { beforeEach, describe, expect, it } from 'vitest'
import type { ErrorFacts } from '../../src/base/errors.js'
import { type Logger, silentLogger } from '../../src/base/log.js'
import type { CheckpointStore } from '../../src/checkpoint/store.js'
import { IDENTITY, stateAt } from './states.js'

export interface StoreUnderTest {
  readonly store: CheckpointStore
  /** Another store over the same things kept, as after a restart. */
  reopen(): CheckpointStore
  damage(which: 'newest' | 'previous'): Promise<void>
}

/** What every CheckpointStore does. */
export function checkpointStoreSuite(name: string, open: (log: Logger) => Promise<StoreUnderTest>): void {
  describe(`${name} as a CheckpointStore`, () => {
    let warnings: { facts: ErrorFacts; message: string }[]
    let under: StoreUnderTest
    beforeEach(async () => {
      warnings = []
      under = await open({ ...silentLogger, warn: (facts, message) => warnings.push({ facts, message }) })
    })

    it('has nothing at first', async () => {
      expect(await under.store.load(IDENTITY)).toBeUndefined()
    })

    it('gives back the state saved last, after a restart too', async () => {
      for (const step of [1, 2, 3]) await under.store.save(stateAt(step))
      expect(await under.store.load(IDENTITY)).toEqual(stateAt(3))
      expect(await under.reopen().load(IDENTITY)).toEqual(stateAt(3))
      expect(warnings).toEqual([])
    })

    it('saves the state of the moment of the call', async () => {
      const state = stateAt(1)
      const saves = [under.store.save(state), under.store.save(state)]
      state.parameters.fill(9)
      state.adam.m.fill(9)
      state.inDoubt.x1!.fill(9)
      await Promise.all(saves)
      expect(await under.store.load(IDENTITY)).toEqual(stateAt(1))
    })

    it('ends with the newest of many saved at once', async () => {
      const saves = Array.from({ length: 10 }, (_, step) => under.store.save(stateAt(step)))
      await saves[1]
      expect(await under.reopen().load(IDENTITY)).toEqual(stateAt(9))
      await Promise.all(saves)
      expect(await under.reopen().load(IDENTITY)).toEqual(stateAt(9))
    })

    it('falls back to the one before when the newest is damaged, and says so', async () => {
      for (const step of [1, 2, 3]) await under.store.save(stateAt(step))
      await under.damage('newest')
      expect(await under.reopen().load(IDENTITY)).toEqual(stateAt(2))
      expect(warnings).toMatchObject([{ message: expect.stringContaining('the checkpoint is damaged') }])
    })

    it('does not put a damaged one in the place of a whole one', async () => {
      for (const step of [1, 2]) await under.store.save(stateAt(step))
      await under.damage('newest')
      const store = under.reopen()
      await store.load(IDENTITY)
      await store.save(stateAt(3))
      await under.damage('newest')
      expect(await under.reopen().load(IDENTITY)).toEqual(stateAt(1))
      await store.save(stateAt(4))
      expect(await under.reopen().load(IDENTITY)).toEqual(stateAt(4))
    })

    it('refuses to invent a state when both are damaged', async () => {
      for (const step of [1, 2]) await under.store.save(stateAt(step))
      await under.damage('newest')
      await under.damage('previous')
      await expect(under.store.load(IDENTITY)).rejects.toMatchObject({
        code: 'checkpoint/corrupt',
        hint: expect.stringContaining('start again')
      })
    })

    it('does not fall back to an older state when the newest is another federation’s or schema’s', async () => {
      await under.store.save(stateAt(1))
      await under.store.save({ ...stateAt(2), federationHash: 'other' })
      await expect(under.store.load(IDENTITY)).rejects.toMatchObject({ code: 'checkpoint/other-federation' })
      await under.store.save({ ...stateAt(3), schemaHash: 'other' })
      await expect(under.store.load(IDENTITY)).rejects.toMatchObject({ code: 'checkpoint/other-schema' })
    })

    it('goes on after a save that failed', async () => {
      const impossible = { ...stateAt(1), inDoubt: { x: new Float32Array(1) } }
      const failing = under.store.save(impossible)
      const waiting = under.store.save(stateAt(2))
      await expect(failing).rejects.toMatchObject({ code: 'checkpoint/wrong-length' })
      await waiting
      expect(await under.store.load(IDENTITY)).toEqual(stateAt(2))
    })
  })
}
