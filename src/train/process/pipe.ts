import type { Duplex } from 'node:stream'
import { createFrameDecoder, type Frame } from './frame.js'

export interface PipeHandlers {
  onFrame(frame: Frame): void
  /** Once, when nothing more will come: the other end closed (no error), the stream broke, or it sent no frame. */
  onEnd(error?: Error): void
}

export interface Pipe {
  /**
   * Writes the chunks of one frame behind those sent before. Resolves when the system has taken them all, so the
   * arrays may then change; rejects when the other end is gone.
   */
  send(chunks: readonly Uint8Array[]): Promise<void>
  /** Nothing more will be sent. */
  close(): void
}

/** Frames over a two-way byte stream. Reads without pause: the protocol's one request in flight bounds what arrives. */
export function openPipe(stream: Duplex, handlers: PipeHandlers): Pipe {
  let ended = false
  const end = (error?: Error) => {
    if (ended) return
    ended = true
    if (error !== undefined) stream.destroy()
    handlers.onEnd(error)
  }
  const decode = createFrameDecoder((frame) => {
    if (!ended) handlers.onFrame(frame)
  })
  stream.on('data', (chunk: Uint8Array) => {
    try {
      if (!ended) decode(chunk)
    } catch (error) {
      end(error as Error)
    }
  })
  stream.on('error', end)
  stream.on('end', () => end())
  stream.on('close', () => end())
  return { send: (chunks) => writeAll(stream, chunks), close: () => void stream.end() }
}

function writeAll(stream: Duplex, chunks: readonly Uint8Array[]): Promise<void> {
  return new Promise((resolve, reject) => {
    stream.cork()
    const last = chunks.length - 1
    chunks.forEach((chunk, i) => {
      stream.write(chunk, i < last ? undefined : (error) => (error ? reject(error) : resolve()))
    })
    stream.uncork()
  })
}
