import { describeError } from '../../base/errors.js'
import { silentLogger } from '../../base/log.js'
import type { Verdict } from '../../base/verdict.js'
import { ignore } from '../../base/verdict.js'
import type { RefuseMessage } from '../../codec/wire/messages.js'
import { payloadBound } from '../../codec/wire/payload.js'
import { elsewhere, exchangeStep, initialExchangeState, stepExchange } from '../../consensus/exchange/exchange.js'
import type {
  ExchangeEffect,
  ExchangeEvent,
  ExchangeOutcome,
  ExchangeState,
  ExchangeVerdictCode,
  LinkId,
  LocalState,
  Parcel,
  Step
} from '../../consensus/exchange/types.js'
import { journalDocument } from '../../consensus/exchange/journal.js'
import { isOddOneOut } from '../../consensus/rules/radius.js'
import { isWorseThanStart, noteLoss } from '../../consensus/rules/robust-rule.js'
import { EXCHANGE_PROTOCOL } from '../../gossip/topics.js'
import type { Channel, PeerId } from '../../gossip/transport.js'
import type { Link, Links, MaybeLater } from './links.js'
import { createLinks } from './links.js'
import { sharedCopy } from './tasks.js'
import type { ExchangeTasks } from '../participant/exchange-types.js'
import { createTallies } from './tallies.js'
import type {
  AttemptOutcome,
  CommittedExchange,
  ExchangeDriver,
  ExchangeDriverComponents,
  ExchangeDriverInit
} from '../participant/exchange-types.js'
import { openChannel } from '../peers/open-channel.js'
import { createPeerBudget, type PeerBudget } from '../peers/peer-budget.js'

/** Milliseconds for one frame: a 256 KiB chunk then needs 9 KiB/s. Also for opening a channel. */
export const FRAME_TIMEOUT_MS = 30_000

/** Peers whose last exchange is remembered. */
const MAX_REMEMBERED_PARTNERS = 1024

/** Milliseconds `stop` waits for an exchange under way. */
const STOP_GRACE_MS = 2_000

/** The driver's own state around the machine's. */
interface Running {
  readonly components: ExchangeDriverComponents
  readonly init: ExchangeDriverInit
  readonly links: Links
  readonly budget: PeerBudget
  readonly tallies: ReturnType<typeof createTallies>
  readonly partners: Map<PeerId, CommittedExchange>
  /** Who waits for the outcome of an exchange we initiated. */
  readonly waiting: Map<LinkId, PromiseWithResolvers<ExchangeOutcome>>
  /** Called when no exchange is under way any more. */
  onIdle: () => void
  state: ExchangeState
  stopping: Promise<void> | undefined
  /** Settles when every step asked for so far has been taken. */
  lastStep: Promise<void>
  /** A step is being taken elsewhere. */
  stepping: boolean
  /** Where such a step finds the parameters it began with: shared memory that is used again, since new memory takes long. */
  snapshot: Float32Array | undefined
}

/**
 * Runs the exchange machine over channels: frames become events, effects become frames. All decisions are the machine's.
 * A state and its `apply` effects take place in one tick, so a checkpoint between two ticks sees both or neither.
 */
export function createExchangeDriver(components: ExchangeDriverComponents, init: ExchangeDriverInit): ExchangeDriver {
  const { clock, transport } = components
  const { config, frameTimeoutMs = FRAME_TIMEOUT_MS } = init
  const tallies = createTallies()
  const payload = config.layouts?.payload ?? payloadBound(config.codec, config.schema.size)
  const budget = createPeerBudget(clock, { ...init, payloadBytes: payload.bytes })
  const links = createLinks({
    clock,
    payload,
    frameTimeoutMs,
    onBytesSent: tallies.sent,
    onBytesReceived(peer, count) {
      tallies.received(count)
      return budget.bytes(peer, count)
    },
    onMessageReceived: budget.message,
    onMessage: (link, parcel) => {
      // A bug of ours, such as parameters that cannot be sent: whoever asked for the exchange must hear of it.
      const fail = (error: unknown) => {
        driver.waiting.get(link.id)?.reject(error)
        throw error
      }
      try {
        return receive(driver, link, parcel)?.catch(fail)
      } catch (error) {
        return fail(error)
      }
    },
    onUnreadable: ({ id, channel }, verdict) =>
      dispatch(driver, { type: 'unreadable', link: id, peer: channel.peer, verdict }),
    onEnd: ({ id, channel }) => dispatch(driver, { type: 'broken', link: id, peer: channel.peer })
  })
  const driver: Running = {
    components,
    init,
    links,
    budget,
    tallies,
    partners: new Map(),
    waiting: new Map(),
    onIdle: () => undefined,
    state: initialExchangeState(init.journal),
    stopping: undefined,
    lastStep: Promise.resolve(),
    stepping: false,
    snapshot: undefined
  }

  return {
    start: () => transport.handle(EXCHANGE_PROTOCOL, (channel) => answer(links, channel)),
    exchangeWith: (peer) => exchangeWith(driver, peer, frameTimeoutMs),
    busy: () => driver.state.active !== undefined || driver.stepping,
    inDoubt: () => driver.state.journal.inDoubt.map((record) => record.peer),
    lastExchange: (peer) => driver.partners.get(peer),
    stats: () => tallies.read(driver.state.journal.inDoubt.length),
    journal: () => journalDocument(driver.state.journal),
    oddOneOut: () => isOddOneOut(driver.state.distances),
    moved: () => amend(driver, elsewhere),
    stop() {
      driver.stopping ??= stop(driver)
      return driver.stopping
    }
  }
}

/** Changes the machine's state between two steps: one under way ends with the state it began with. */
function amend(driver: Running, change: (state: ExchangeState) => ExchangeState): void {
  const now = () => {
    driver.state = change(driver.state)
  }
  if (driver.components.tasks === undefined) now()
  else driver.lastStep = driver.lastStep.then(now)
}

/** Takes the machine's next step, at once or, where its tasks are done elsewhere, behind the steps that wait. */
function dispatch(driver: Running, event: ExchangeEvent): MaybeLater {
  const { holder, phase, place, tasks } = driver.components
  if (tasks === undefined) {
    const local = { ...place?.(), parameters: holder.parameters(), phase: phase() }
    take(driver, stepExchange({ config: driver.init.config, local }, driver.state, event))
    return undefined
  }
  const step = driver.lastStep.then(() => stepElsewhere(driver, tasks, event))
  driver.lastStep = step.catch(() => undefined)
  return step
}

async function stepElsewhere(driver: Running, tasks: ExchangeTasks, event: ExchangeEvent): Promise<void> {
  const { holder, phase, place } = driver.components
  let taken: Float32Array | undefined
  const local: LocalState = {
    ...place?.(),
    // Local steps go on meanwhile, so what is coded is a copy; most steps need none.
    get parameters() {
      taken ??= snapshotOf(driver, holder.parameters())
      return taken
    },
    phase: phase()
  }
  driver.stepping = true
  try {
    const working = exchangeStep({ config: driver.init.config, local }, driver.state, event)
    let next = working.next()
    while (!next.done) next = working.next(await tasks.run(next.value))
    take(driver, next.value)
  } finally {
    driver.stepping = false
  }
}

/** One step at a time, and nothing of it is kept behind its end. */
function snapshotOf(driver: Running, parameters: Float32Array): Float32Array {
  if (driver.snapshot?.length === parameters.length) driver.snapshot.set(parameters)
  else driver.snapshot = sharedCopy(parameters)
  return driver.snapshot
}

/** In one tick: the new state, and all that goes with it. */
function take(driver: Running, [state, effects]: Step): void {
  driver.state = state
  for (const effect of effects) perform(driver, effect)
  if (state.active === undefined) driver.onIdle()
}

function perform(driver: Running, effect: ExchangeEffect): void {
  const { links, tallies, waiting, components } = driver
  const { logger = silentLogger } = components
  switch (effect.type) {
    case 'record':
      return components.exchangeLog?.append(effect.entry)
    case 'send':
      if (effect.message.type === 'refuse') tallies.refusedByUs(effect.message.code)
      // What we promise must outlive a crash, so it is on disk before anybody hears of it.
      return links.send(effect.link, effect, components.exchangeLog?.synced())
    case 'close':
      return links.close(effect.link)
    case 'apply':
      components.holder.add(effect.increment)
      return committed(driver, effect)
    case 'undone':
      return logger.debug({ peer: effect.peer }, 'an exchange in doubt had not happened')
    case 'forgotten':
      tallies.forgotten()
      return logger.warn({ peer: effect.peer }, 'gave up settling an exchange: its partner has not come back')
    case 'penalise':
      return judged(driver, effect.peer, effect.verdict)
    case 'finished':
      if (effect.outcome.kind === 'refused') tallies.refusedByOthers(effect.outcome.code)
      waiting.get(effect.link)?.resolve(effect.outcome)
      waiting.delete(effect.link)
  }
}

function committed(
  driver: Running,
  { peer, role, partnerPhase, observed }: ExchangeEffect & { readonly type: 'apply' }
): void {
  const { partners, tallies, components } = driver
  const exchange: CommittedExchange = {
    peer,
    role,
    partnerPhase,
    atMs: components.clock.now(),
    ...(observed && { observed })
  }
  tallies.committed(observed)
  partners.delete(peer)
  partners.set(peer, exchange)
  if (partners.size > MAX_REMEMBERED_PARTNERS) partners.delete(partners.keys().next().value as PeerId)
  components.onCommitted?.(exchange)
  void measureLosses(driver, peer)
}

/** What the partner's state and our own lose on our data: after the exchange, which does not wait for a forward pass. */
async function measureLosses(driver: Running, peer: PeerId): Promise<void> {
  const { lossOf, holder, logger = silentLogger } = driver.components
  const { robust, reference } = driver.init.config
  const seen = driver.state.recent.get(peer)
  if (lossOf === undefined || seen === undefined || robust?.rule !== 'ubar') return
  try {
    const start = driver.state.losses?.start ?? (await lossOf(reference))
    const losses = { own: await lossOf(holder.parameters().slice()), start }
    const { vector } = seen
    const loss = await lossOf(vector)
    amend(driver, (state) => ({ ...state, losses, recent: noteLoss(state.recent, peer, { vector, loss }) }))
    if (isWorseThanStart(losses, loss))
      judged(driver, peer, ignore('exchange/worse-than-start', `${loss.toFixed(3)} nats on our data`))
  } catch (error) {
    logger.warn({ error: describeError(error) }, 'could not measure what a partner knows')
  }
}

function judged({ tallies, components }: Running, peer: PeerId, verdict: Verdict<ExchangeVerdictCode>): void {
  if (verdict.verdict === 'accept') return
  const { logger = silentLogger, onVerdict } = components
  tallies.verdict(verdict.code)
  const level = verdict.verdict === 'reject' ? 'warn' : 'debug'
  logger[level]({ peer, code: verdict.code, detail: verdict.detail }, 'judged what a peer sent in an exchange')
  onVerdict?.(peer, verdict)
}

function receive(driver: Running, link: Link, { message, payload }: Parcel): MaybeLater {
  const { peer } = link.channel
  const { type, exchangeId } = message
  if (type === 'hello' && driver.stopping !== undefined) return turnAway(driver, link, { exchangeId, code: 'leaving' })
  if (type === 'hello' && !driver.budget.hello(peer)) {
    judged(driver, peer, ignore('exchange/rate-limited'))
    return turnAway(driver, link, { exchangeId, code: 'rate-limited' })
  }
  return dispatch(driver, {
    type: 'message',
    link: link.id,
    peer,
    message,
    ...(payload === undefined ? {} : { payload })
  })
}

/** The driver's own refusal of a HELLO, before the machine hears of it. */
function turnAway({ links, tallies }: Running, { id }: Link, refusal: Omit<RefuseMessage, 'type'>): undefined {
  tallies.refusedByUs(refusal.code)
  links.send(id, { message: { type: 'refuse', ...refusal } })
  links.close(id)
}

async function answer(links: Links, channel: Channel): Promise<void> {
  if (links.full()) return channel.close()
  await links.begin(channel).ended
}

async function exchangeWith(driver: Running, peer: PeerId, timeoutMs: number): Promise<AttemptOutcome> {
  const { components, links, waiting } = driver
  if (driver.state.active !== undefined || links.full()) return { kind: 'yielded' }
  if (driver.stopping !== undefined) return { kind: 'refused', code: 'leaving' }
  const { transport, clock } = components
  const channel = await openChannel(transport, clock, { peer, protocol: EXCHANGE_PROTOCOL, timeoutMs })
  if (typeof channel === 'string') return { kind: 'unreachable', code: channel }
  const { link, ended } = links.begin(channel)
  // Its rejection is that of `outcome`.
  ended.catch(() => undefined)
  const outcome = Promise.withResolvers<ExchangeOutcome>()
  waiting.set(link.id, outcome)
  dispatch(driver, { type: 'initiate', link: link.id, peer })?.catch(outcome.reject)
  return outcome.promise
}

async function stop(driver: Running): Promise<void> {
  const done = new AbortController()
  const grace = driver.components.clock.sleep(STOP_GRACE_MS, done.signal).catch(() => undefined)
  const idle = new Promise<void>((resolve) => {
    driver.onIdle = resolve
    if (driver.state.active === undefined) resolve()
  })
  await Promise.race([grace, idle])
  done.abort()
  await driver.links.abortAll(new Error('leaving'))
  await driver.lastStep
  await driver.components.tasks?.close()
}
