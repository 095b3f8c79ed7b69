import type { Status } from '../../src/status/snapshot.js'
import { table } from './report.js'

const bytes = (count: number): string =>
  count < 1_000_000 ? `${(count / 1000).toFixed(0)} kB` : `${(count / 1_000_000).toFixed(1)} MB`

function row(status: Status): string[] {
  const last = [...status.peers].sort((a, b) => (b.lastExchangeAtMs ?? 0) - (a.lastExchangeAtMs ?? 0))[0]
  const partner = last?.lastExchangeAtMs === undefined ? '-' : last.peerId.slice(-8)
  const staleness = last?.stalenessMs === undefined ? '-' : `${(last.stalenessMs / 1000).toFixed(1)} s`
  return [
    status.peerId.slice(-8),
    status.phase,
    `${status.steps.done}/${status.steps.total}`,
    status.loss.smoothed === undefined ? '-' : status.loss.smoothed.toFixed(3),
    String(status.exchanges.completed),
    partner,
    bytes(status.bytes.sent),
    bytes(status.bytes.received),
    staleness
  ]
}

const HEAD = ['peer', 'phase', 'steps', 'loss', 'exchanges', 'last partner', 'out', 'in', 'staleness']

/** One frame of the live table: a line per peer; a peer that does not answer is named. */
export function frame(statuses: readonly (Status | undefined)[], seconds: number): string {
  const rows = statuses.map((status, index) => (status === undefined ? [`node ${index}`, 'starting'] : row(status)))
  return `${seconds.toFixed(0)} s\n${table([HEAD, ...rows.map((cells) => HEAD.map((_, column) => cells[column] ?? '-'))])}`
}

export interface Screen {
  show(frame: string): void
  done(): void
}

/** Redraws in place on a terminal; elsewhere prints one frame every `everyMs`, so that a log stays readable. */
export function createScreen(out: NodeJS.WriteStream, now: () => number, everyMs = 5_000): Screen {
  let height = 0
  let printedAt = Number.NEGATIVE_INFINITY
  return {
    show(text) {
      if (out.isTTY) {
        if (height > 0) out.write(`\x1b[${height}A\x1b[0J`)
        out.write(`${text}\n`)
        height = text.split('\n').length
      } else if (now() - printedAt >= everyMs) {
        printedAt = now()
        out.write(`${text}\n\n`)
      }
    },
    done: () => void out.write('\n')
  }
}
