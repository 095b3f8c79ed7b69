import { describe, expect, it } from 'vitest'
import { silentLogger } from '../../src/base/log.js'
import { type Host, type StopSignal, STOP_TIMEOUT_MS, runNode } from '../../src/cli/lifecycle.js'
import type { PeertuneNode } from '../../src/node/types.js'
import { status } from '../status/fixture.js'

/** A node that does what the test says, and a process that only takes notes. */
function scene({ start = Promise.resolve(), stop = Promise.resolve() } = {}) {
  const notes: string[] = []
  const done = Promise.withResolvers<void>()
  let signal: ((signal: StopSignal) => void) | undefined
  const node: PeertuneNode = {
    start: () => start,
    stop: (reason) => {
      notes.push(`stop: ${reason}`)
      return stop.then(() => done.resolve())
    },
    status: () => status(),
    done: done.promise
  }
  const host: Host = {
    onSignal: (listener) => {
      signal = listener
      return () => void notes.push('forgotten')
    },
    exit: (code) => void notes.push(`exit ${code}`),
    after: (ms, callback) => {
      notes.push(`timer ${ms}`)
      timers.push(callback)
    }
  }
  const timers: (() => void)[] = []
  const started = Promise.withResolvers<void>()
  const exitCode = runNode(node, {
    host,
    log: silentLogger,
    started: async () => {
      notes.push('started')
      started.resolve()
    }
  })
  return { notes, done, timers, exitCode, started: started.promise, send: (name: StopSignal) => signal?.(name) }
}

describe('runNode', () => {
  it('ends with 0 when the node stops by itself', async () => {
    const { notes, done, exitCode, started } = scene()
    await started
    done.resolve()
    expect(await exitCode).toBe(0)
    expect(notes).toEqual(['started', 'forgotten'])
  })

  it.each([
    ['SIGINT', 130],
    ['SIGTERM', 143]
  ] as const)('stops gracefully at the first %s and ends with %d', async (signal, code) => {
    const { notes, exitCode, send, started } = scene()
    await started
    send(signal)
    expect(await exitCode).toBe(code)
    expect(notes).toEqual(['started', `stop: ${signal}`, `timer ${STOP_TIMEOUT_MS}`, 'forgotten'])
  })

  it('ends at once at the second signal', async () => {
    const never = new Promise<void>(() => undefined)
    const { notes, send, started } = scene({ stop: never })
    await started
    send('SIGINT')
    send('SIGTERM')
    expect(notes.at(-1)).toBe('exit 143')
    expect(notes.filter((note) => note.startsWith('stop'))).toHaveLength(1)
  })

  it('ends with 1 when stopping takes too long', async () => {
    const { notes, send, started, timers } = scene({ stop: new Promise<void>(() => undefined) })
    await started
    send('SIGTERM')
    timers[0]?.()
    expect(notes.at(-1)).toBe('exit 1')
  })

  it('stops a node that is still starting, and says nothing of where it listens', async () => {
    const start = Promise.withResolvers<void>()
    const { notes, exitCode, send } = scene({ start: start.promise })
    send('SIGINT')
    start.reject(new Error('aborted'))
    expect(await exitCode).toBe(130)
    expect(notes).not.toContain('started')
  })

  it('passes on what kept the node from starting, after closing what was open', async () => {
    const { notes, exitCode } = scene({ start: Promise.reject(new Error('port in use')) })
    await expect(exitCode).rejects.toThrow('port in use')
    expect(notes).toEqual(['stop: start failed', 'forgotten'])
  })

  it('passes on what ended a running node', async () => {
    const { done, exitCode, started } = scene()
    await started
    done.reject(new Error('disk full'))
    await expect(exitCode).rejects.toThrow('disk full')
  })

  it('passes on what kept the node from stopping', async () => {
    const { exitCode, send, started } = scene({ stop: Promise.reject(new Error('disk full')) })
    await started
    send('SIGINT')
    await expect(exitCode).rejects.toThrow('disk full')
  })
})
