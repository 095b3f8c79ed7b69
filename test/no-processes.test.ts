import { execFile, execFileSync, fork, spawn, spawnSync } from 'node:child_process'
import { createServer } from 'node:http'
import { Worker } from 'node:worker_threads'
import { describe, expect, it } from 'vitest'

const NODE = process.execPath

describe('a quick test', () => {
  it.each([
    ['start a process', 'spawn', () => spawn(NODE, ['-v'])],
    ['start a process', 'fork', () => fork('nothing.js')],
    ['start a process', 'execFile', () => execFile(NODE, ['-v'])],
    ['start a process', 'spawnSync', () => spawnSync(NODE, ['-v'])],
    ['start a process', 'execFileSync', () => execFileSync(NODE, ['-v'])],
    ['start a thread', 'Worker', () => new Worker('0', { eval: true })],
    ['listen on a port', 'listen', () => createServer().listen(0, '127.0.0.1')]
  ])('may not %s (%s)', (what, _name, work) => {
    expect(work).toThrow(`a quick test may not ${what}`)
  })
})
