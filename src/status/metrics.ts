import { Counter, Gauge, Registry } from 'prom-client'
import { isReady, type PeerStatus, type Status } from './snapshot.js'

export const METRICS_CONTENT_TYPE = Registry.PROMETHEUS_CONTENT_TYPE

/** Peers that get series of their own, the most recent exchanges first; a scrape must not grow with the network. */
export const MAX_PEER_SERIES = 100

/** Peers turned away that come first among them: an operator looks for these, and names cost an attacker nothing. */
export const MAX_BANNED_SERIES = 25

/**
 * The snapshot in Prometheus' text format. A registry of its own each time: the snapshot already holds the totals, so
 * nothing is counted twice and nothing lives on after a peer has gone.
 */
export function prometheusText(status: Status): Promise<string> {
  const registry = new Registry()
  addNode(registry, status)
  addTraffic(registry, status)
  addMixing(registry, status)
  addBroadcast(registry, status)
  addPeers(registry, status)
  return registry.metrics()
}

type Labelled = readonly (readonly [labels: Readonly<Record<string, string>>, value: number])[]

function gauge(registry: Registry, name: string, help: string, values: number | Labelled | undefined): void {
  if (values === undefined || isEmpty(values)) return
  const metric = new Gauge({ name, help, labelNames: labelNames(values), registers: [registry] })
  if (typeof values === 'number') metric.set(values)
  else for (const [labels, value] of values) metric.set(labels, value)
}

function counter(registry: Registry, name: string, help: string, values: number | Labelled): void {
  if (isEmpty(values)) return
  const metric = new Counter({ name, help, labelNames: labelNames(values), registers: [registry] })
  if (typeof values === 'number') metric.inc(values)
  else for (const [labels, value] of values) metric.inc(labels, value)
}

/** A metric without series would get one without labels, saying 0. */
const isEmpty = (values: number | Labelled): boolean => typeof values !== 'number' && values.length === 0

const labelNames = (values: number | Labelled): string[] =>
  typeof values === 'number' ? [] : Object.keys(values[0]?.[0] ?? {})

function addNode(registry: Registry, status: Status): void {
  const about = {
    version: status.version,
    peer: status.peerId,
    federation: status.federation.name,
    federation_hash: status.federation.hash,
    model: status.model.sha256,
    device: status.device.used,
    arithmetic: status.arithmetic.used,
    phase: status.phase
  }
  gauge(registry, 'peertune_info', 'What this node is; always 1', [[about, 1]])
  gauge(registry, 'peertune_ready', '1 once it takes part', isReady(status) ? 1 : 0)
  gauge(registry, 'peertune_uptime_seconds', 'Seconds since the start', status.uptimeSeconds)
  counter(registry, 'peertune_steps_total', 'Local optimiser steps taken', status.steps.done)
  gauge(registry, 'peertune_steps_target', 'Local optimiser steps to take', status.steps.total)
  gauge(registry, 'peertune_steps_per_second', 'Local steps a second of late', status.steps.perSecond)
  gauge(
    registry,
    'peertune_int8_gradient_cosine',
    "Of the first step's gradients in int8 to those in float32",
    status.arithmetic.float32Cosine
  )
  gauge(registry, 'peertune_loss_nats', 'Smoothed training loss', status.loss.smoothed)
  const { evaluation } = status
  if (evaluation !== undefined)
    gauge(registry, 'peertune_evaluation', 'Metric on held-out data', [
      [{ metric: evaluation.metric }, evaluation.value]
    ])
  counter(registry, 'peertune_trainer_restarts_total', 'Times the trainer was started anew', status.trainer.restarts)
  gauge(registry, 'peertune_checkpoint_step', 'Local step of the last checkpoint', status.checkpoint?.step)
}

function addMixing(registry: Registry, { mixing, staleness, neighbours, caughtUp, statesGiven }: Status): void {
  gauge(registry, 'peertune_staleness_steps', 'Local steps since the last exchange', staleness?.steps)
  gauge(registry, 'peertune_staleness_limit_steps', 'Local steps after which it waits', staleness?.limit)
  gauge(
    registry,
    'peertune_waiting',
    'It takes no local steps until it has had an exchange; where peers broadcast: contact, or room, as most peers must first have what is kept for them; always 1',
    staleness?.waitsFor === undefined ? undefined : [[{ for: staleness.waitsFor }, 1]]
  )
  gauge(registry, 'peertune_overlay_neighbours', 'Neighbours on the overlay', neighbours?.length)
  gauge(
    registry,
    'peertune_caught_up_timestamp_seconds',
    'When it last went to the middle of several states',
    caughtUp === undefined ? undefined : [[{ reason: caughtUp.reason }, caughtUp.atMs / 1000]]
  )
  if (statesGiven !== undefined)
    counter(registry, 'peertune_states_given_total', 'States given to others to read', statesGiven)
  gauge(registry, 'peertune_mixing_distance', 'Distance to the partner before mixing, of late', mixing?.distance)
  gauge(registry, 'peertune_mixing_cross_term', 'What averaging factors leaves out of products', mixing?.crossTerm)
  gauge(registry, 'peertune_mixing_cross_share', 'The cross term over the mean product', mixing?.crossShare)
  gauge(registry, 'peertune_mixing_clip_ratio', 'Share of exchanges that were clipped', mixing?.clipRate)
  gauge(registry, 'peertune_mixing_exchange_bytes', 'Bytes for each exchange made', mixing?.bytesPerExchange)
}

function addBroadcast(registry: Registry, { broadcast }: Status): void {
  if (broadcast === undefined) return
  const authors = broadcast.authors.slice(0, MAX_PEER_SERIES)
  counter(registry, 'peertune_broadcast_published_total', 'Updates of our own told to all', broadcast.published)
  counter(registry, 'peertune_broadcast_counted_total', 'Updates taken in', broadcast.counted)
  counter(
    registry,
    'peertune_broadcast_caught_total',
    'Times an author wrote two updates with one number',
    broadcast.caught
  )
  counter(registry, 'peertune_broadcast_sent_bytes_total', 'Bytes of updates and sync streams sent', broadcast.sent)
  counter(registry, 'peertune_broadcast_received_bytes_total', 'Bytes of sync streams received', broadcast.received)
  gauge(registry, 'peertune_broadcast_held', 'Updates kept one by one', broadcast.held)
  gauge(registry, 'peertune_broadcast_waiting', 'Updates that wait for one before them', broadcast.waiting)
  gauge(registry, 'peertune_broadcast_peers_ahead', 'Peers with updates that we lack', broadcast.peersAhead)
  gauge(
    registry,
    'peertune_broadcast_sequence',
    'Number of the last update counted, by author',
    authors.map(({ author, sequence }) => [{ author }, sequence] as const)
  )
}

function addTraffic(registry: Registry, { bytes, exchanges, refusals }: Status): void {
  counter(registry, 'peertune_sent_bytes_total', 'Bytes sent', bytes.sent)
  counter(registry, 'peertune_received_bytes_total', 'Bytes received', bytes.received)
  counter(registry, 'peertune_float32_bytes_total', 'Bytes plain float32 would have sent', bytes.float32Equivalent)
  counter(registry, 'peertune_exchanges_total', 'Exchanges by outcome', [
    [{ outcome: 'completed' }, exchanges.completed],
    [{ outcome: 'failed' }, exchanges.failed]
  ])
  gauge(registry, 'peertune_exchanges_in_doubt', 'Exchanges waiting for what settles them', exchanges.inDoubt)
  const refused = Object.entries(refusals).map(([reason, count]) => [{ reason }, count] as const)
  counter(registry, 'peertune_refusals_total', 'What peers sent and was refused, by reason', refused)
}

const isBanned = ({ offence }: PeerStatus): boolean => offence?.bannedUntilMs !== undefined

/** Peers that get series of their own: those turned away, then those exchanged with last. */
function shownOf(peers: readonly PeerStatus[]): readonly PeerStatus[] {
  const shown = new Set(peers.filter(isBanned).slice(0, MAX_BANNED_SERIES))
  for (const peer of [...peers].sort((a, b) => (b.lastExchangeAtMs ?? 0) - (a.lastExchangeAtMs ?? 0)))
    if (shown.size < MAX_PEER_SERIES) shown.add(peer)
  return [...shown]
}

function addPeers(registry: Registry, { peers }: Status): void {
  const shown = shownOf(peers)
  const each = (value: (peer: PeerStatus) => number | undefined): Labelled =>
    shown.flatMap((peer) => {
      const measured = value(peer)
      return measured === undefined ? [] : [[{ peer: peer.peerId }, measured] as const]
    })
  gauge(registry, 'peertune_peers_connected', 'Connected peers', peers.filter(({ connected }) => connected).length)
  gauge(
    registry,
    'peertune_peer_staleness_seconds',
    'Seconds since the last exchange with the peer',
    each(({ stalenessMs }) => (stalenessMs === undefined ? undefined : stalenessMs / 1000))
  )
  gauge(
    registry,
    'peertune_peer_distance',
    'Distance to the peer at the last exchange',
    each(({ distance }) => distance)
  )
  gauge(registry, 'peertune_peers_banned', 'Peers turned away now', peers.filter(isBanned).length)
  gauge(
    registry,
    'peertune_peer_banned',
    'The peer is turned away, and the reason; always 1',
    shown.filter(isBanned).map(({ peerId, offence }) => [{ peer: peerId, reason: offence?.code ?? '' }, 1] as const)
  )
  counter(
    registry,
    'peertune_peer_exchanges_total',
    'Completed exchanges',
    each(({ exchanges }) => exchanges)
  )
  counter(
    registry,
    'peertune_peer_sent_bytes_total',
    'Bytes sent to the peer',
    each(({ bytesOut }) => bytesOut)
  )
  counter(
    registry,
    'peertune_peer_received_bytes_total',
    'Bytes from the peer',
    each(({ bytesIn }) => bytesIn)
  )
  counter(
    registry,
    'peertune_peer_refusals_total',
    'Refused from the peer',
    each(({ refusals }) => refusals)
  )
  counter(
    registry,
    'peertune_peer_refusals_by_reason_total',
    'Refused from the peer, by reason',
    shown.flatMap(({ peerId, refusedFor = {} }) =>
      Object.entries(refusedFor).map(([reason, count]) => [{ peer: peerId, reason }, count] as const)
    )
  )
}
