import type { NodeState } from '../../checkpoint/state.js'
import { isIsolated } from '../../consensus/rounds.js'
import { createCheckpointer, type Checkpointer, lastSaved } from '../learner/checkpointer.js'
import { conclude, createLearner, type Learner } from '../learner/learner.js'
import { type LoopParts, runLoop } from '../learner/loop.js'
import { surroundingsOf } from '../peers/membership.js'
import type { AttemptOptions } from './mixer.js'
import { createNeighbourhood, type Neighbourhood } from './neighbourhood.js'
import type { Participant, ParticipantParts, ParticipantReport } from '../participant/types.js'
import { ownReport } from '../learner/own-report.js'
import { journalOf, mapValues, recover } from '../learner/recovery.js'
import { parametersSha256, RESUMED } from '../learner/resumed.js'

interface Life {
  readonly parts: ParticipantParts
  readonly learner: Learner
  readonly others: Neighbourhood
  readonly checkpointer: Checkpointer
  evaluation: ParticipantReport['evaluation']
}

/** A node with its model in place: all between the trainer and the transport, as the last checkpoint left it. */
export async function createParticipant(parts: ParticipantParts): Promise<Participant> {
  const saved = await lastSaved(parts)
  const learner = createLearner(parts, saved)
  const [journal, made] = await recover({ saved, shared: learner.shared, exchangeLog: parts.exchangeLog })
  for (const { increment, partnerPhase } of made) {
    learner.shared.addInto(increment, learner.parameters)
    learner.progress.exchanged(partnerPhase)
  }
  if (made.length > 0) parts.log.info({ exchanges: made.length }, 'recovered exchanges that were in the log only')
  if (saved !== undefined) {
    const { step, exchanges } = learner.progress.rounds()
    parts.log.info({ step, exchanges, sha256: parametersSha256(learner.parameters), pid: process.pid }, RESUMED)
  }
  const others = createNeighbourhood(parts, learner, { journal, savedAtMs: saved?.savedAtMs })
  const checkpointer = createExchangeCheckpointer({ parts, learner, driver: others.driver, before: saved })
  const life: Life = { parts, learner, others, checkpointer, evaluation: undefined }
  return { run: (signal) => live(life, signal), report: () => reportOf(life) }
}

/** What goes into a checkpoint, and the last one. */
interface ExchangeCheckpointerParts {
  readonly parts: ParticipantParts
  readonly learner: Learner
  readonly driver: Neighbourhood['driver']
  readonly before: NodeState | undefined
}

/** With the journal in every checkpoint; what a checkpoint contains of the exchange log is not needed there any more. */
function createExchangeCheckpointer({ parts, learner, driver, before }: ExchangeCheckpointerParts): Checkpointer {
  const { exchangeLog } = parts
  /** What the checkpoint before the last contains of the log; should the last be damaged, the rest is needed. */
  let loggedBefore = journalOf(before).logged ?? 0
  return createCheckpointer({
    participant: parts,
    learner,
    before,
    keptWithIt() {
      const { json, tensors } = driver.journal()
      const journal = { ...json, logged: exchangeLog?.sequence() ?? 0 }
      return { journal, inDoubt: mapValues(tensors, learner.shared.expand) }
    },
    async onSaved(state) {
      await exchangeLog?.trim(loggedBefore)
      loggedBefore = journalOf(state).logged ?? 0
    }
  })
}

const waits = ({ parts, learner, others }: Life): boolean =>
  isIsolated(learner.progress.rounds(), surroundingsOf(others.membership, parts.clock.now()), learner.roundsConfig)

const reportOf = (life: Life): ParticipantReport => reportWith(life, waits(life))

const reportWith = ({ learner, others, checkpointer, evaluation }: Life, waiting: boolean): ParticipantReport => ({
  ...ownReport(learner, checkpointer, evaluation),
  ...(waiting && { waitsFor: 'exchange' as const }),
  failures: others.mixer.failures(),
  driver: others.driver,
  membership: others.membership,
  caughtUp: others.catchUp.last(),
  statesGiven: others.reader.given(),
  neighbours: others.neighbours?.(),
  exchangesWith: (peer) => others.exchangesByPeer.get(peer) ?? 0
})

async function live(life: Life, signal: AbortSignal): Promise<void> {
  const { membership, driver, reader, logBroken } = life.others
  const { progress } = life.learner
  const failure = new AbortController()
  const fail = (error: unknown) => failure.abort(error)
  const stop = AbortSignal.any([signal, failure.signal])
  logBroken.catch(fail)
  driver.start()
  reader.start()
  const announcing = membership.run(stop)
  const unwatch = progress.onPhase(() => void membership.announce())
  try {
    // A step that cannot be made ends the announcements, too: they are waited for below.
    await runLoop(loopOf(life, fail), stop).catch(fail)
  } finally {
    unwatch()
    await driver.stop()
    await announcing
    const { step, exchanges } = progress.rounds()
    // A model that failed in its first step has left nothing to go on from.
    if (!failure.signal.aborted || step + exchanges > 0) await life.checkpointer.save()
    await life.parts.exchangeLog?.close()
  }
  if (failure.signal.aborted) throw failure.signal.reason
}

/** What the loop moves; `fail` hears of what went wrong beside it. */
function loopOf(life: Life, fail: (error: unknown) => void): LoopParts {
  const { parts, learner, others, checkpointer } = life
  const { progress, optimiser, roundsConfig: config } = learner
  const { membership, driver, mixer, catchUp } = others
  let unsaved = false
  const mixOrCatchUp = async (options: AttemptOptions): Promise<unknown> => {
    const reason = options.doubtsOnly || driver.busy() ? undefined : catchUp.due()
    if (reason === undefined) return mixer.attempt(options)
    // What it did is in no exchange log: without a checkpoint a crash would lose it.
    if ((await catchUp.run(reason)) === 'moved') unsaved = true
    return undefined
  }
  return {
    config,
    onDone: () => finish(life),
    clock: parts.clock,
    rounds: { get: progress.rounds, set: progress.setRounds },
    localStep: async () => progress.stepped(await optimiser.step()),
    mix: (options) => mixOrCatchUp(options).catch(fail),
    surroundings: () => ({
      ...surroundingsOf(membership, parts.clock.now()),
      waitedMs: progress.waitedMs(),
      inDoubt: driver.inDoubt().length > 0
    }),
    maybeSave: () => {
      if (!unsaved && !checkpointer.isDue()) return
      unsaved = false
      checkpointer.save().catch(fail)
    }
  }
}

async function finish(life: Life): Promise<void> {
  await life.others.membership.announce()
  life.evaluation = await conclude(life.parts, life.learner, life.checkpointer.save)
}
