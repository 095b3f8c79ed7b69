import { StringDecoder } from 'node:string_decoder'
import type { Readable } from 'node:stream'
import { stripVTControlCharacters } from 'node:util'

/** Lines kept to explain a death: a native stack trace and what led to it. */
export const MAX_TAIL_LINES = 20
/** Longer lines are cut: nobody reads a tensor dump in a log. */
export const MAX_LINE_CHARS = 400
/** Lines of one process that are passed on to the log; a runtime that warns at every step shall not fill a disk. */
export const MAX_LOGGED_LINES = 200

export interface OutputTail {
  /** Reads a stream to its end; several may be followed. */
  follow(stream: Readable): void
  /** The last lines, oldest first. */
  lines(): readonly string[]
}

/** Keeps the last lines that a process printed and passes the first ones on. Bounded in lines and in their length. */
export function createOutputTail(onLine: (line: string) => void): OutputTail {
  const kept: string[] = []
  let logged = 0
  const take = (line: string) => {
    kept.push(line)
    if (kept.length > MAX_TAIL_LINES) kept.shift()
    logged++
    if (logged <= MAX_LOGGED_LINES) onLine(line)
    if (logged === MAX_LOGGED_LINES) onLine('(further output is left out)')
  }
  return { follow: (stream) => followLines(stream, take), lines: () => kept.slice() }
}

function followLines(stream: Readable, take: (line: string) => void): void {
  const decoder = new StringDecoder('utf8')
  let line = ''
  const flush = () => {
    const plain = stripVTControlCharacters(line).trimEnd()
    if (plain !== '') take(plain)
    line = ''
  }
  stream.on('data', (chunk: Buffer) => {
    const [first, ...rest] = decoder.write(chunk).split('\n')
    line = (line + first).slice(0, MAX_LINE_CHARS)
    for (const next of rest) {
      flush()
      line = next.slice(0, MAX_LINE_CHARS)
    }
  })
  stream.on('end', flush)
  // A pipe that breaks has nothing more to say; the exit of the process is reported elsewhere.
  stream.on('error', flush)
}
