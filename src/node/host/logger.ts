import { pino } from 'pino'
import type { ErrorFacts } from '../../base/errors.js'
import type { Logger } from '../../base/log.js'
import { printable } from '../../base/text.js'

export const LOG_LEVELS = ['debug', 'info', 'warn', 'error', 'silent'] as const
export type LogLevel = (typeof LOG_LEVELS)[number]

/** Where lines go: stderr, so that stdout carries only what scripts read. */
export interface LogSink {
  write(line: string): unknown
  readonly isTTY?: boolean
}

/** One JSON object a line, or one readable line when people look on. */
export function createLogger({
  level = 'info',
  sink = process.stderr,
  readable = sink.isTTY === true
}: {
  readonly level?: LogLevel
  readonly sink?: LogSink
  readonly readable?: boolean
} = {}): Logger {
  const destination = readable ? { write: (line: string) => sink.write(readableLine(line)) } : sink
  const log = pino({ level, base: null, formatters: { level: (label) => ({ level: label }) } }, destination)
  return {
    debug: (facts, message) => log.debug(facts, message),
    info: (facts, message) => log.info(facts, message),
    warn: (facts, message) => log.warn(facts, message),
    error: (facts, message) => log.error(facts, message)
  }
}

/** `12:03:59.120 WARN  no peer answers  address=/ip4/... attempts=3` from pino's JSON. */
function readableLine(json: string): string {
  const { time, level, msg, ...facts } = JSON.parse(json) as { time: number; level: string; msg: string } & ErrorFacts
  const clock = new Date(time).toISOString().slice(11, 23)
  const pairs = Object.entries(facts).map(([name, value]) => `${name}=${written(value)}`)
  return `${[`${clock} ${level.toUpperCase().padEnd(5)} ${printable(msg)}`, ...pairs].join('  ')}\n`
}

function written(value: unknown): string {
  if (typeof value === 'number') return Number.isInteger(value) ? String(value) : String(Number(value.toPrecision(6)))
  const text = typeof value === 'string' ? value : JSON.stringify(value)
  return printable(/^\S+$/.test(text) ? text : JSON.stringify(text))
}
