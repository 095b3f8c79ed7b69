import { printable } from '../base/text.js'

/** stdout: what was asked for and nothing else. Logs and errors go to stderr. */
export interface Output {
  /** One line, fit for a terminal whoever wrote it. */
  line(text: string): void
  /** Part of a text that somebody else wrote, as it comes; line ends stay. */
  part(text: string): void
  /** Our own text of several lines, as it is. */
  text(text: string): void
  /** One JSON value on one line. */
  json(value: unknown): void
}

export const createOutput = (write: (text: string) => unknown): Output => ({
  line: (text) => void write(`${printable(text)}\n`),
  part: (text) => void write(text.split('\n').map(printable).join('\n')),
  text: (text) => void write(text.endsWith('\n') ? text : `${text}\n`),
  json: (value) => void write(`${JSON.stringify(value)}\n`)
})
