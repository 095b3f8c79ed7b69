import { randomUUID } from 'node:crypto'
import type { ExchangeConfig } from '../../consensus/exchange/types.js'
import type { Journal } from '../../consensus/exchange/journal.js'
import type { PeerId } from '../../gossip/transport.js'
import type { Selection } from '../../tensor/selection.js'
import type { Trainer } from '../../train/trainer.js'
import { type CatchUp, createCatchUp } from './catch-up.js'
import { mixingConfig, type SharedStart } from './exchange-config.js'
import { createExchangeDriver } from './driver.js'
import { MIN_OFFLOADED_PARAMETERS } from './tasks.js'
import type { ExchangeTasks } from '../participant/exchange-types.js'
import type {
  CommittedExchange,
  ExchangeDriver,
  ExchangeDriverComponents,
  ParameterHolder
} from '../participant/exchange-types.js'
import { type Learner, lossOf, placeOf } from '../learner/learner.js'
import type { Membership } from '../peers/membership.js'
import { createMixer, type Mixer } from './mixer.js'
import { createOverlayNeighbours } from '../peers/overlay-neighbours.js'
import { createOwnMembership } from '../learner/own-membership.js'
import type { ParticipantParts } from '../participant/types.js'
import { watchedLog } from '../learner/recovery.js'
import { createStateReader, type StateReader } from './state-reader.js'

/** The others, and all that is done with them in pairs. */
export interface Neighbourhood {
  readonly membership: Membership
  readonly driver: ExchangeDriver
  readonly mixer: Mixer
  readonly reader: StateReader
  readonly catchUp: CatchUp
  readonly neighbours: (() => readonly PeerId[]) | undefined
  readonly exchangesByPeer: ReadonlyMap<PeerId, number>
  /** Rejects when the exchange log cannot be written any more. */
  readonly logBroken: Promise<never>
}

/** What the last life has left of it. */
export interface FormerNeighbourhood {
  readonly journal: Journal
  /** Milliseconds since the epoch; undefined at the first life. */
  readonly savedAtMs: number | undefined
}

export function createNeighbourhood(
  parts: ParticipantParts,
  learner: Learner,
  { journal, savedAtMs }: FormerNeighbourhood
): Neighbourhood {
  const { transport, federation, clock, log, onVerdict, manifest } = parts
  const { progress, rng, shared } = learner
  const logBroken = Promise.withResolvers<never>()
  // Heard by whoever runs; before that, nobody needs it.
  logBroken.promise.catch(() => undefined)
  const membership = createOwnMembership(parts, progress)
  const overlay = { spec: manifest.mixing.overlay, seed: federation, self: transport.self }
  const neighbours = createOverlayNeighbours({ ...overlay, membership, clock })
  const config = exchangeConfig(parts, shared)
  const holder = holderOf(learner)
  const exchangesByPeer = new Map<PeerId, number>()
  const onCommitted = ({ peer, partnerPhase }: CommittedExchange): void => {
    exchangesByPeer.set(peer, (exchangesByPeer.get(peer) ?? 0) + 1)
    catchUp.exchanged()
    learner.optimiser.mixed()
    mixer.noteCommitted(peer)
    membership.noteExchange(peer, partnerPhase)
    progress.exchanged(partnerPhase)
  }
  const driver = createExchangeDriver(
    {
      ...exchangeComponents(parts, learner, config),
      holder,
      place: () => placeOf(learner, neighbours?.().length),
      ...(parts.exchangeLog && { exchangeLog: watchedLog(parts.exchangeLog, logBroken.reject) }),
      onCommitted
    },
    { config, journal }
  )
  const mixer = createMixer({
    driver,
    candidates: membership.candidates,
    ...(neighbours && { neighbours }),
    present: membership.members,
    phase: () => progress.rounds().phase,
    clock,
    rng
  })
  const moment = () => progress.rounds()
  const reader = createStateReader({ transport, clock, config, parameters: holder.parameters, moment, onVerdict })
  const catchUp = createCatchUp({
    config,
    reader,
    membership,
    driver,
    holder,
    rounds: progress.rounds,
    ...(savedAtMs === undefined ? {} : { savedAtMs }),
    clock,
    rng,
    log
  })
  return { membership, driver, mixer, reader, catchUp, neighbours, exchangesByPeer, logBroken: logBroken.promise }
}

const holderOf = ({ parameters, shared }: Learner): ParameterHolder => ({
  parameters: () => shared.take(parameters),
  add: (increment) => shared.addInto(increment, parameters)
})

/** What the driver needs that does not depend on the others. */
function exchangeComponents(
  parts: ParticipantParts,
  learner: Learner,
  config: ExchangeConfig
): Omit<ExchangeDriverComponents, 'holder'> {
  const tasks = tasksOf(parts, learner.shared, config)
  return {
    transport: parts.transport,
    clock: parts.clock,
    logger: parts.log,
    phase: () => learner.progress.rounds().phase,
    ...(tasks && { tasks }),
    lossOf: (vector) => lossOf(parts, learner, vector),
    onVerdict: parts.onVerdict
  }
}

function tasksOf(
  { exchangeTasks, manifest }: ParticipantParts,
  { schema }: Selection,
  config: ExchangeConfig
): ExchangeTasks | undefined {
  if (schema.size < MIN_OFFLOADED_PARAMETERS) return undefined
  return exchangeTasks?.({ config: plainConfig(config), manifest, schema })
}

/** What is plain data of it. */
const plainConfig = ({ self, federation, weight, incarnation, reference }: ExchangeConfig) => ({
  self,
  federation,
  weight,
  incarnation,
  reference
})

const exchangeConfig = (
  { transport, federation, manifest, trainer, dataset }: ParticipantParts,
  shared: Selection
): ExchangeConfig => ({
  self: transport.self,
  federation,
  ...sharedStart(trainer, shared),
  ...mixingConfig(manifest, sharedStart(trainer, shared)),
  weight: dataset.size,
  incarnation: randomUUID()
})

const sharedStart = ({ description }: Trainer, { schema, take }: Selection): SharedStart => ({
  schema,
  reference: take(description.initial)
})
