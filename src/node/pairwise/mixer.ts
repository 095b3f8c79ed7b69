import type { Clock } from '../../base/clock.js'
import type { Rng } from '../../base/rng.js'
import type { Phase } from '../../codec/wire/messages.js'
import {
  type AttemptResult,
  attemptResult,
  choosePartner,
  initialPartnerState,
  noteAttempt,
  type PartnerState
} from '../../consensus/partners/partner.js'
import type { PeerId } from '../../gossip/transport.js'
import type { AttemptOutcome, ExchangeDriver } from '../participant/exchange-types.js'

export interface MixerParts {
  readonly driver: Pick<ExchangeDriver, 'exchangeWith' | 'busy' | 'inDoubt'>
  /** Peers to choose from now. */
  readonly candidates: (phase: Phase) => readonly PeerId[]
  /** Our neighbours on the federation's overlay; absent where partners are drawn at random. */
  readonly neighbours?: () => readonly PeerId[]
  /** Peers that a channel could be opened to now, in any phase. */
  readonly present: () => readonly PeerId[]
  readonly phase: () => Phase
  readonly clock: Clock
  readonly rng: Rng
}

export interface AttemptOptions {
  /** Ask nobody but those we are in doubt with. Default false. */
  readonly doubtsOnly?: boolean
}

/** Chooses partners and asks them, one at a time. */
export interface Mixer {
  /** One attempt; an attempt under way is returned instead of starting another. `nobody`: no partner to be had now. */
  attempt(options?: AttemptOptions): Promise<AttemptResult | 'nobody'>
  /** A peer made an exchange with us. */
  noteCommitted(peer: PeerId): void
  /** Attempts that failed since the start, by the code of what ended them; a busy partner is no failure. */
  failures(): Readonly<Record<string, number>>
}

export function createMixer({ driver, candidates, neighbours, present, phase, clock, rng }: MixerParts): Mixer {
  let partners: PartnerState = initialPartnerState
  const failures = new Map<string, number>()
  let underWay: Promise<AttemptResult | 'nobody'> | undefined

  async function ask({ doubtsOnly = false }: AttemptOptions): Promise<AttemptResult | 'nobody'> {
    if (driver.busy()) return 'busy'
    const question = {
      candidates: doubtsOnly ? [] : candidates(phase()),
      ...(neighbours === undefined ? {} : { neighbours: neighbours() }),
      inDoubt: driver.inDoubt().filter((peer) => present().includes(peer)),
      nowMs: clock.now(),
      rng
    }
    const [next, partner] = choosePartner(partners, question)
    partners = next
    if (partner === undefined) return 'nobody'
    const outcome = await driver.exchangeWith(partner)
    const result = resultOf(outcome)
    if (result === 'failed') failures.set(codeOf(outcome), (failures.get(codeOf(outcome)) ?? 0) + 1)
    // A committed exchange is noted where it was applied, whoever asked for it.
    if (result !== 'committed') partners = noteAttempt(partners, { peer: partner, result }, { nowMs: clock.now(), rng })
    return result
  }

  return {
    attempt(options = {}) {
      underWay ??= ask(options).finally(() => {
        underWay = undefined
      })
      return underWay
    },
    noteCommitted: (peer) => {
      partners = noteAttempt(partners, { peer, result: 'committed' }, { nowMs: clock.now(), rng })
    },
    failures: () => Object.fromEntries(failures)
  }
}

/** Codes are our own words, so their number is bounded. */
const codeOf = (outcome: AttemptOutcome): string => ('code' in outcome ? outcome.code : outcome.kind)

/** A peer that could not be reached has failed; the rest is `attemptResult`. */
const resultOf = (outcome: AttemptOutcome): AttemptResult =>
  outcome.kind === 'unreachable' ? 'failed' : attemptResult(outcome)
