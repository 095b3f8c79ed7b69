import type { Clock } from '../../../src/base/clock.js'
import { systemClock } from '../../../src/base/clock.js'
import { seededRng } from '../../../src/base/rng.js'
import type { Verdict } from '../../../src/base/verdict.js'
import type { ExchangeLog } from '../../../src/checkpoint/exchange-log.js'
import type { CodecName } from '../../../src/codec/codec.js'
import type { Phase } from '../../../src/codec/wire/messages.js'
import { codecByName, defaultGamma } from '../../../src/codec/registry.js'
import type { ExchangeConfig } from '../../../src/consensus/exchange/types.js'
import type { Journal } from '../../../src/consensus/exchange/journal.js'
import { createMemoryNetwork } from '../../../src/gossip/memory/memory.js'
import { createExchangeDriver } from '../../../src/node/pairwise/driver.js'
import type { ExchangeTasks } from '../../../src/node/participant/exchange-types.js'
import type { CommittedExchange, ExchangeDriverInit } from '../../../src/node/participant/exchange-types.js'
import { addInto } from '../../../src/tensor/linear.js'

export const SIZE = 500

export const randomVector = (scale: number, ...seed: (string | number)[]): Float32Array => {
  const rng = seededRng('driver-test', ...seed)
  return Float32Array.from({ length: SIZE }, () => scale * (rng.uniform() - 0.5))
}

export const reference = randomVector(2, 'x0')

export interface WorldOptions {
  readonly seed: string
  readonly clock?: Clock
  readonly codec?: CodecName
  /** Without a limit unless given: the tests here make in a second what a network makes in an hour. */
  readonly limits?: Partial<ExchangeDriverInit>
}

/** Of a member that is not at its first life or remembers more than its journal. */
export interface LifeOptions {
  readonly exchangeLog?: Pick<ExchangeLog, 'append' | 'synced'>
  readonly incarnation?: string
  readonly tasks?: (config: ExchangeConfig) => ExchangeTasks
}

/** Drivers on an in-memory network. */
export function exchangeWorld({ seed, clock = systemClock, codec = 'int8', limits = {} }: WorldOptions) {
  const network = createMemoryNetwork({ seed, clock })

  async function member(
    name: string,
    weight: number,
    journal?: Journal,
    start = randomVector(1, seed, name),
    { exchangeLog, incarnation = `life of ${name}`, tasks }: LifeOptions = {}
  ) {
    const transport = network.join({ name })
    await transport.start()
    const live = reference.map((value, i) => value + start[i]!)
    const committed: CommittedExchange[] = []
    const verdicts: { readonly peer: string; readonly verdict: Verdict }[] = []
    const config: ExchangeConfig = {
      self: name,
      federation: 'f'.repeat(64),
      schema: { hash: '5'.repeat(64), size: SIZE },
      reference,
      codec: codecByName(codec),
      gamma: defaultGamma(codec),
      weight,
      incarnation
    }
    const phase = { now: 'training' as Phase }
    const driver = createExchangeDriver(
      {
        transport,
        clock,
        holder: { parameters: () => live, add: (increment) => addInto(increment, live) },
        phase: () => phase.now,
        ...(exchangeLog && { exchangeLog }),
        ...(tasks && { tasks: tasks(config) }),
        onCommitted: (exchange) => committed.push(exchange),
        onVerdict: (peer, verdict) => verdicts.push({ peer, verdict })
      },
      { config, helloBurst: 1e6, ...(journal === undefined ? {} : { journal }), ...limits }
    )
    driver.start()
    return { name, weight, transport, live, driver, committed, verdicts, config, phase }
  }

  return { network, member }
}

export type Member = Awaited<ReturnType<ReturnType<typeof exchangeWorld>['member']>>
