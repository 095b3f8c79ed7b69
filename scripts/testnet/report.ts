import type { CrashRecovery } from './crash-recovery.js'
import type { TimelineEntry } from './director.js'
import type { Explained } from './explain.js'
import type { Stalls } from './stalls.js'

export interface PeerReport {
  readonly peerId: string
  readonly steps: number
  /** The metric of the same peer trained alone; null when left out. */
  readonly localOnly: number | null
  /** The metric of the peer's own parameters after mixing. */
  readonly mixed: number
  readonly exchanges: number
  readonly bytesSent: number
  readonly stalls: Stalls
  /** Refusals by code, given and received, and failed attempts (`failed/`); of all lives. */
  readonly refusals: Readonly<Record<string, number>>
  readonly status: string
}

export interface TestnetReport {
  readonly task: string
  readonly metric: 'accuracy' | 'loss'
  readonly seconds: number
  readonly peers: readonly PeerReport[]
  /** The metric of the sample-weighted mean of all peers' parameters. */
  readonly merged: number
  /** One machine with all data and as many steps as all peers together; null when left out. */
  readonly central: number | null
  /** Bytes all peers sent, over what the same exchanges cost in float32. */
  readonly bytesRatio: number
  /** The metric before any training, for reading the rest. */
  readonly start: number
  /** The longest that any peer stood still. */
  readonly stalls: Stalls
  /** Every refused or failed exchange by code, with what it means. */
  readonly refusals: readonly Explained[]
  /** For each time a peer was killed: what it went on from. */
  readonly comebacks: readonly CrashRecovery[]
  /** What was done to the network; empty where nothing was. */
  readonly timeline: readonly TimelineEntry[]
  /** Against a run in which nothing went wrong; absent where there was none. */
  readonly undisturbed?: UndisturbedRun
}

/** The same peers, data and steps, left in peace. */
export interface UndisturbedRun {
  readonly merged: number
  readonly seconds: number
  readonly stalls: Stalls
  readonly refusals: readonly Explained[]
  /** How much worse the disturbed run's merged adapter is, in units of the metric; below 0: better. */
  readonly lost: number
}

export const mean = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length

const isBetter = (metric: TestnetReport['metric'], a: number, b: number): boolean =>
  metric === 'accuracy' ? a > b : a < b

/** Every peer finished and mixing was worth it: the mean mixed peer beats the mean lone peer. */
export function mixingWon(report: TestnetReport): boolean {
  const alone = report.peers.map((peer) => peer.localOnly).filter((value) => value !== null)
  if (alone.length === 0) return true
  return isBetter(report.metric, mean(report.peers.map((peer) => peer.mixed)), mean(alone))
}

const kilobytes = (bytes: number): string => `${(bytes / 1000).toFixed(0)} kB`

function formatMetric(metric: TestnetReport['metric'], value: number | null): string {
  if (value === null) return '-'
  return metric === 'accuracy' ? `${(100 * value).toFixed(1)} %` : `${value.toFixed(3)} nats`
}

/** Columns padded to their widest cell. */
export function table(rows: readonly (readonly string[])[]): string {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)))
  return rows
    .map((row) =>
      row
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join('  ')
        .trimEnd()
    )
    .join('\n')
}

/** The report as a person reads it. */
export function describeReport(report: TestnetReport): string {
  const show = (value: number | null) => formatMetric(report.metric, value)
  // "Busy" is how a crowded network works; the JSON has it all the same.
  const refused = (peer: PeerReport) =>
    Object.entries(peer.refusals).reduce((sum, [code, count]) => sum + (code.endsWith('/busy') ? 0 : count), 0)
  const rows = report.peers.map((peer) => [
    peer.peerId.slice(-8),
    String(peer.steps),
    show(peer.localOnly),
    show(peer.mixed),
    String(peer.exchanges),
    kilobytes(peer.bytesSent),
    String(refused(peer)),
    peer.status
  ])
  const alone = report.peers.map((peer) => peer.localOnly).filter((value) => value !== null)
  const summary = [
    ['before training', show(report.start)],
    ['local-only, mean', alone.length === 0 ? '-' : show(mean(alone))],
    ['mixed peers, mean', show(mean(report.peers.map((peer) => peer.mixed)))],
    ['merged adapter', show(report.merged)],
    ['one machine with all data', show(report.central)],
    ['bytes sent / float32', report.bytesRatio.toFixed(3)],
    ['seconds', report.seconds.toFixed(1)]
  ]
  const trouble = [...describeTimeline(report), ...describeRefusals(report), ...describeComparison(report)]
  const head = ['peer', 'steps', 'local-only', 'mixed', 'exchanges', 'sent', 'refused', 'status page (while it ran)']
  return `${report.task}, ${report.metric}\n\n${table([head, ...rows])}\n\n${table(summary)}${trouble.map((part) => `\n\n${part}`).join('')}`
}

const seconds = (ms: number): string => `${(ms / 1000).toFixed(1)} s`

const describeTimeline = ({ timeline }: TestnetReport): string[] =>
  timeline.length === 0 ? [] : [table(timeline.map((entry) => [`${entry.seconds.toFixed(0)} s`, entry.what]))]

const describeRefusals = ({ refusals, timeline }: TestnetReport): string[] =>
  timeline.length === 0 || refusals.length === 0
    ? []
    : [table(refusals.map(({ code, count, reason = 'UNEXPLAINED' }) => [String(count), code, reason]))]

function describeComparison({ undisturbed, merged, metric, stalls }: TestnetReport): string[] {
  if (undisturbed === undefined) return []
  const show = (value: number) => formatMetric(metric, value)
  return [
    table([
      ['', 'undisturbed', 'disturbed'],
      ['merged adapter', show(undisturbed.merged), show(merged)],
      ['longest wait for an exchange', seconds(undisturbed.stalls.exchangeMs), seconds(stalls.exchangeMs)],
      ['longest wait for a step', seconds(undisturbed.stalls.stepMs), seconds(stalls.stepMs)]
    ])
  ]
}
