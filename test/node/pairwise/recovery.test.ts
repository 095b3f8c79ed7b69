import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { silentLogger } from '../../../src/base/log.js'
import { seededRng } from '../../../src/base/rng.js'
import { createFileExchangeLog } from '../../../src/checkpoint/file-exchange-log.js'
import { recover } from '../../../src/node/learner/recovery.js'
import { addInto, weightedMean } from '../../../src/tensor/linear.js'
import { createSchema } from '../../../src/tensor/schema.js'
import { selectTensors } from '../../../src/tensor/selection.js'
import { exchangeWorld, type Member, randomVector, SIZE } from './exchange-world.js'

const shared = selectTensors(createSchema([{ name: 'w', shape: [SIZE] }]), undefined)
const WEIGHTS = [3, 5, 2, 7]

let root: string
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'peertune-recovery-'))
})
afterEach(() => rmSync(root, { recursive: true, force: true }))

const openLog = (name: string) =>
  createFileExchangeLog({
    directory: join(root, name),
    identity: { federationHash: 'f'.repeat(64), schemaHash: '5'.repeat(64), size: SIZE },
    log: silentLogger
  })

describe('a node that dies and has no checkpoint but its log', () => {
  it('has every exchange its partners have, and they have none that it has not', async () => {
    const seed = 'recovery'
    const { network, member } = exchangeWorld({ seed })
    const logs = new Map<string, ReturnType<typeof openLog>>()
    let lives = 0
    let recovered = 0

    async function live(name: string, weight: number): Promise<Member> {
      const exchangeLog = openLog(name)
      logs.set(name, exchangeLog)
      const [journal, made] = await recover({ saved: undefined, shared, exchangeLog })
      const start = randomVector(1, seed, name)
      const one = await member(name, weight, journal, start, { exchangeLog, incarnation: `life ${lives++}` })
      for (const { increment } of made) addInto(increment, one.live)
      recovered += made.length
      return one
    }
    const members = await Promise.all(WEIGHTS.map((weight, i) => live(`peer-${i}`, weight)))
    const mean = () =>
      weightedMean(
        members.map((one) => one.live),
        WEIGHTS
      )
    await network.connectAll()
    const before = mean()
    const rng = seededRng(seed)
    network.setFaults({ channelCut: { probability: 0.4, withinFrames: 3 } })
    for (let turn = 0; turn < 120; turn++) {
      const [a, b, dying] = rng.shuffle([0, 1, 2, 3])
      const exchange = members[a!]!.driver.exchangeWith(members[b!]!.name)
      if (turn % 10 !== 9) await exchange
      else {
        // In the middle of whatever the others do.
        const { name, weight, transport } = members[turn % 20 === 9 ? a! : dying!]!
        await transport.stop()
        await exchange
        await logs.get(name)!.close()
        members[members.findIndex((one) => one.name === name)] = await live(name, weight)
        await network.connectAll()
      }
    }
    network.setFaults({})
    for (const { driver } of members)
      while (driver.inDoubt().length > 0) await driver.exchangeWith(driver.inDoubt()[0]!)
    const after = mean()
    expect(Math.hypot(...after.map((value, i) => value - before[i]!)) / Math.hypot(...before)).toBeLessThan(1e-6)
    expect(lives).toBe(WEIGHTS.length + 12)
    expect(recovered).toBeGreaterThan(100)
    for (const log of logs.values()) await log.close()
  })
})

describe('what is not on the disk yet', () => {
  it('is not said: no ACK without a record of the exchange, no COMMIT without one of the doubt', async () => {
    const { network, member } = exchangeWorld({ seed: 'held' })
    const disk = Promise.withResolvers<void>()
    const kinds: string[] = []
    const slow = {
      append: ({ kind }: { readonly kind: string }) => void kinds.push(kind),
      synced: () => disk.promise
    }
    const a = await member('a', 3)
    await member('b', 5, undefined, undefined, { exchangeLog: slow })
    await network.connectAll()
    let ended = false
    const exchange = a.driver.exchangeWith('b').finally(() => {
      ended = true
    })
    // ACCEPT was asked for before anything was recorded, but this disk makes everybody wait.
    await new Promise((resolve) => setImmediate(resolve))
    expect(ended).toBe(false)
    disk.resolve()
    expect(await exchange).toEqual({ kind: 'committed' })
    expect(kinds).toEqual(['committed'])
    expect(a.committed).toHaveLength(1)
  })

  it('when the disk has failed, the partner is left in doubt rather than told', async () => {
    const { network, member } = exchangeWorld({ seed: 'failed', limits: { frameTimeoutMs: 200 } })
    let recorded = false
    const broken = {
      append: () => {
        recorded = true
      },
      synced: async () => {
        if (recorded) throw new Error('no space left')
      }
    }
    const a = await member('a', 3)
    await member('b', 5, undefined, undefined, { exchangeLog: broken })
    await network.connectAll()
    expect((await a.driver.exchangeWith('b')).kind).toBe('in-doubt')
    expect(a.driver.inDoubt()).toEqual(['b'])
  })
})
