import { html } from 'hono/html'
import type { PeerStatus, Status } from './snapshot.js'
import { readableBytes, readableSeconds, shortId } from './units.js'

/** Seconds between two looks at the node. */
const REFRESH_SECONDS = 2
/** Rows of the peer table; the rest is counted below it. */
export const MAX_PEER_ROWS = 200

/** The status as one HTML page. Everything peers or operators wrote goes through the template's escaping. */
export function statusPage(status: Status) {
  const name = status.label === '' ? shortId(status.peerId) : status.label
  return html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${name} · peertune</title>
<link rel="stylesheet" href="/page.css">
<noscript><meta http-equiv="refresh" content="${REFRESH_SECONDS}"></noscript>
<script src="/page.js" defer></script>
</head>
<body>
<main>
<h1>${name} <small>${status.federation.name}</small></h1>
<p class="phase ${status.phase}">${sentence(status)}</p>
${progress(status)}
${facts(status)}
${peerTable(status.peers)}
${bootstrapTable(status)}
${refusalTable(status)}
<footer>peertune ${status.version} · up ${readableSeconds(status.uptimeSeconds)} ·
<a href="/status">JSON</a> · <a href="/metrics">metrics</a></footer>
</main>
</body>
</html>`
}

const WAITED_FOR = {
  exchange: 'an exchange with a peer',
  contact: 'word from or to a peer',
  room: 'most peers to have what is kept for them'
} as const

function trainingText({ steps, staleness }: Status): string {
  if (staleness?.waitsFor === undefined) return `Training: step ${steps.done} of ${steps.total}`
  const { waitsFor, steps: without, limit } = staleness
  const since = waitsFor === 'room' ? '' : `: ${without} local steps without, at most ${limit}`
  return `At step ${steps.done} of ${steps.total}, waiting for ${WAITED_FOR[waitsFor]}${since}`
}

function sentence(status: Status): string {
  const { phase, peers, exchanges } = status
  const connected = peers.filter((peer) => peer.connected).length
  const others = `${connected} ${connected === 1 ? 'peer' : 'peers'} connected, ${exchanges.completed} exchanges`
  const doing: Readonly<Record<Status['phase'], string>> = {
    starting: 'Starting',
    training: trainingText(status),
    settling: 'Settling: gossip only, learning rate 0',
    done: 'Done; still answering',
    stopping: 'Leaving'
  }
  return `${doing[phase]} · ${others}`
}

const progress = ({ steps }: Status) =>
  html`<progress max="${steps.total}" value="${steps.done}">${steps.done} of ${steps.total}</progress>`

function facts(status: Status) {
  const { bytes, checkpoint, device, evaluation, exchanges, loss, model, steps, trainer } = status
  const rows: readonly (readonly [string, string])[] = [
    ['Peer id', status.peerId],
    ['Addresses', status.addresses.join('\n')],
    ['Federation', `${status.federation.name} · ${status.federation.hash}`],
    ['Model', `${model.path} · ${model.parameters} trained parameters`],
    ['Task', status.task],
    ['Device', device.reason === undefined ? device.used : `${device.used} (${device.reason})`],
    ['Speed', `${steps.perSecond.toFixed(1)} steps/s`],
    ['Loss', loss.smoothed === undefined ? '–' : `${loss.smoothed.toFixed(4)} nats`],
    ['Data', dataText(status.data)],
    ['Held-out', evaluation === undefined ? '–' : `${measured(evaluation)} at step ${evaluation.atStep}`],
    ['Bytes', `${readableBytes(bytes.sent)} sent · ${readableBytes(bytes.received)} received`],
    ['Saved', bytes.savedRatio === 0 ? '–' : `${bytes.savedRatio.toFixed(2)} times smaller than float32`],
    ['Exchanges', `${exchanges.completed} completed · ${exchanges.failed} failed · ${exchanges.inDoubt} in doubt`],
    ['Checkpoint', checkpoint === undefined ? 'none yet' : `step ${checkpoint.step}`],
    ['Trainer', `${trainer.pid === undefined ? 'not running' : `pid ${trainer.pid}`} · ${trainer.restarts} restarts`]
  ]
  return html`<dl>${rows.map(([term, value]) => html`<dt>${term}</dt><dd>${value}</dd>`)}</dl>`
}

function dataText(data: Status['data']): string {
  if (data === undefined) return '–'
  const { kind, rows, read, training, heldOut = 0, skipped = 0 } = data
  if (training === undefined) return `${kind}: ${(100 * read).toFixed(0)} % read, ${rows} rows`
  return `${kind}: ${training} examples · ${heldOut} held out${skipped === 0 ? '' : ` · ${skipped} broken rows left out`}`
}

const measured = ({ metric, value }: NonNullable<Status['evaluation']>): string =>
  metric === 'accuracy'
    ? `${(100 * value).toFixed(1)} % right`
    : `${value.toFixed(4)} ${metric === 'mse' ? 'mean squared error' : 'nats'}`

function peerTable(peers: readonly PeerStatus[]) {
  if (peers.length === 0) return html`<h2>Peers</h2><p>None yet.</p>`
  const head = [
    'Peer',
    'Connected',
    'Federation',
    'Exchanges',
    'Last exchange',
    'Steps since',
    'Out',
    'In',
    'Distance',
    'Refused'
  ]
  const more = peers.length - MAX_PEER_ROWS
  return html`<h2>Peers</h2>
<div class="wide"><table>
<thead><tr>${head.map((cell) => html`<th scope="col">${cell}</th>`)}</tr></thead>
<tbody>${peers.slice(0, MAX_PEER_ROWS).map(peerRow)}</tbody>
</table></div>${more > 0 ? html`<p>and ${more} more</p>` : ''}`
}

function peerRow(peer: PeerStatus) {
  const federation = peer.sameFederation === undefined ? '–' : peer.sameFederation ? 'same' : 'another'
  const cells = [
    peer.connected ? 'yes' : 'no',
    federation,
    String(peer.exchanges),
    peer.stalenessMs === undefined ? '–' : `${readableSeconds(peer.stalenessMs / 1000)} ago`,
    peer.stalenessSteps === undefined ? '–' : String(peer.stalenessSteps),
    readableBytes(peer.bytesOut),
    readableBytes(peer.bytesIn),
    peer.distance === undefined ? '–' : readableNumber(peer.distance),
    refusedCell(peer)
  ]
  return html`<tr><th scope="row" title="${peer.peerId}">${peer.label ?? ''} <code>${shortId(peer.peerId)}</code></th>
${cells.map((cell) => html`<td>${cell}</td>`)}</tr>`
}

const readableNumber = (value: number): string => value.toPrecision(3)

/** How often something of it was refused, why last, and whether it is turned away for it. */
const refusedCell = ({ refusals, offence }: PeerStatus): string =>
  offence === undefined
    ? String(refusals)
    : `${refusals} (${offence.code}${offence.bannedUntilMs === undefined ? '' : ', turned away'})`

function bootstrapTable({ bootstrap }: Status) {
  if (bootstrap.length === 0) return ''
  return html`<h2>Bootstrap</h2><ul>${bootstrap.map(
    ({ address, attempts, sentence, state }) =>
      html`<li><strong>${state}</strong> ${sentence} <code>${address}</code> (${attempts} attempts)</li>`
  )}</ul>`
}

function refusalTable({ refusals }: Status) {
  const reasons = Object.entries(refusals)
  if (reasons.length === 0) return ''
  return html`<h2>Refused</h2><dl>${reasons.map(
    ([reason, count]) => html`<dt><code>${reason}</code></dt><dd>${count}</dd>`
  )}</dl>`
}

/** Swaps in what the server renders; the markup was escaped there. Keeps scroll position and needs no framework. */
export const PAGE_SCRIPT = `const refresh = async () => {
  try {
    const answer = await fetch('/', { cache: 'no-store' })
    const next = new DOMParser().parseFromString(await answer.text(), 'text/html')
    const main = next.querySelector('main')
    if (answer.ok && main) document.querySelector('main').replaceWith(main)
    document.title = next.title
    document.body.classList.remove('gone')
  } catch {
    document.body.classList.add('gone')
  }
  setTimeout(refresh, ${REFRESH_SECONDS * 1000})
}
setTimeout(refresh, ${REFRESH_SECONDS * 1000})
`

export const PAGE_STYLE = `:root { color-scheme: light dark; --line: color-mix(in srgb, currentColor 18%, transparent) }
body { font: 15px/1.5 system-ui, sans-serif; margin: 0; padding: 2rem 1rem }
body.gone main { opacity: 0.45 }
main { max-width: 64rem; margin: 0 auto }
h1 { font-size: 1.5rem; margin: 0 }
h1 small { font-weight: normal; opacity: 0.7 }
h2 { font-size: 1.05rem; margin: 2rem 0 0.5rem }
progress { width: 100%; height: 0.6rem }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 0.2rem 1.5rem; margin: 1rem 0 }
dt { opacity: 0.7 }
dd { margin: 0; white-space: pre-line; overflow-wrap: anywhere }
.wide { overflow-x: auto }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums }
th, td { text-align: right; padding: 0.35rem 0.6rem; border-bottom: 1px solid var(--line); white-space: nowrap }
th:first-child { text-align: left; font-weight: 600 }
thead th { font-weight: normal; opacity: 0.7 }
code { font-size: 0.9em; overflow-wrap: anywhere }
footer { margin-top: 2.5rem; opacity: 0.7 }
`
