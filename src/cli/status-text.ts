import type { PeerStatus, Status } from '../status/snapshot.js'
import { readableBytes, readableSeconds, shortId } from '../status/units.js'

/** A status as lines for a terminal. */
export function statusText(status: Status): string[] {
  const { bytes, device, exchanges, loss, steps } = status
  const facts: readonly (readonly [string, string | undefined])[] = [
    ['peer', `${status.label === '' ? '' : `${status.label} `}${status.peerId}`],
    ['federation', `${status.federation.name} ${status.federation.hash}`],
    ['phase', `${status.phase}, up ${readableSeconds(status.uptimeSeconds)}`],
    ['waits for', waitText(status.staleness)],
    ['device', deviceText(device)],
    ['arithmetic', arithmeticText(status.arithmetic)],
    ['steps', `${steps.done} of ${steps.total}, ${steps.perSecond.toFixed(1)}/s`],
    ['loss', loss.smoothed === undefined ? undefined : `${loss.smoothed.toFixed(4)} nats`],
    ['data', dataText(status.data)],
    ['exchanges', `${exchanges.completed} completed, ${exchanges.failed} failed, ${exchanges.inDoubt} in doubt`],
    ['mixing', mixingText(status.mixing)],
    ['bytes', `${readableBytes(bytes.sent)} sent, ${readableBytes(bytes.received)} received`],
    ['checkpoint', status.checkpoint === undefined ? 'none yet' : `step ${status.checkpoint.step}`],
    ...status.addresses.map((address) => ['address', address] as const),
    ...status.bootstrap.map(({ sentence, state }) => ['bootstrap', `${state}: ${sentence}`] as const),
    ...Object.entries(status.refusals).map(([reason, count]) => ['refused', `${reason} ${count}`] as const)
  ]
  const lines = facts.flatMap(([name, value]) => (value === undefined ? [] : [`${name.padEnd(11)} ${value}`]))
  return [...lines, ...peerLines(status.peers)]
}

const waitText = (staleness: Status['staleness']): string | undefined =>
  staleness?.waitsFor === 'room'
    ? 'room: most peers must have what is kept for them'
    : staleness?.waitsFor && `${staleness.waitsFor}: ${staleness.steps} local steps without, at most ${staleness.limit}`

/** What the exchanges of late have shown. */
function mixingText(mixing: Status['mixing']): string | undefined {
  if (mixing === undefined) return undefined
  const { distance, crossShare } = mixing
  const cross = crossShare === undefined ? '' : `, cross term ${(100 * crossShare).toFixed(1)} % of the products`
  return `partners ${distance.toPrecision(3)} away${cross}`
}

function dataText(data: Status['data']): string | undefined {
  if (data === undefined) return undefined
  const { kind, rows, read, training, heldOut = 0, skipped = 0 } = data
  if (training === undefined) return `${kind}, ${(100 * read).toFixed(0)} % read, ${rows} rows`
  const broken = skipped === 0 ? '' : `, ${skipped} broken rows left out`
  return `${kind}, ${training} examples, ${heldOut} held out${broken}`
}

/** Nothing to tell of the usual one. */
function arithmeticText({ used, float32Cosine }: Status['arithmetic']): string | undefined {
  if (used === 'float32') return undefined
  return float32Cosine === undefined ? used : `${used} (first gradients to float32: cosine ${float32Cosine.toFixed(4)})`
}

function deviceText({ used, reason, nodeShare }: Status['device']): string {
  const facts = [
    reason,
    nodeShare === undefined ? undefined : `${Math.round(100 * nodeShare)} % of a small graph on it`
  ]
  const known = facts.filter((fact) => fact !== undefined)
  return known.length === 0 ? used : `${used} (${known.join('; ')})`
}

/** How much of it was refused; why, where it is turned away for it. */
const refusedText = ({ refusals, offence }: PeerStatus): string =>
  offence?.bannedUntilMs === undefined ? String(refusals) : `${refusals} (turned away: ${offence.code})`

function peerLines(peers: readonly PeerStatus[]): string[] {
  if (peers.length === 0) return ['peers       none yet']
  const head = ['peer', 'connected', 'exchanges', 'last', 'out', 'in', 'refused']
  const rows = peers.map((peer) => [
    `${peer.label ?? ''} ${shortId(peer.peerId)}`.trim(),
    peer.connected ? 'yes' : 'no',
    String(peer.exchanges),
    peer.stalenessMs === undefined ? '-' : `${readableSeconds(peer.stalenessMs / 1000)} ago`,
    readableBytes(peer.bytesOut),
    readableBytes(peer.bytesIn),
    refusedText(peer)
  ])
  const widths = head.map((_, i) => Math.max(...[head, ...rows].map((row) => (row[i] ?? '').length)))
  return [
    '',
    ...[head, ...rows].map((row) =>
      row
        .map((cell, i) => cell.padEnd(widths[i] ?? 0))
        .join('  ')
        .trimEnd()
    )
  ]
}
