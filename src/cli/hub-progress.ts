import type { HubObserver } from '../node/config/model-source.js'

/** Where progress is shown: stderr, so that stdout stays what was asked for. */
export interface ProgressStream {
  readonly isTTY?: boolean
  write(text: string): unknown
}

const MEGABYTE = 2 ** 20

/** What comes from the hub, for people: a line that moves on a terminal, a line per file anywhere else. */
export function hubProgress(stream: ProgressStream = process.stderr): HubObserver {
  const line = (text: string) => void stream.write(`${stream.isTTY ? '\r\u001b[K' : ''}${text}\n`)
  return {
    resolved: (reference, sha) => line(`${reference}: commit ${sha}`),
    fallback: (error, sha) => line(`${error.message}; using the cached commit ${sha}`),
    progress({ file, received, total }) {
      const whole = received === total
      if (!whole && !stream.isTTY) return
      const text = `${file}: ${megabytes(received)} of ${megabytes(total)}`
      if (whole) line(text)
      else stream.write(`\r\u001b[K${text}`)
    }
  }
}

const megabytes = (bytes: number): string => `${(bytes / MEGABYTE).toFixed(1)} MB`
