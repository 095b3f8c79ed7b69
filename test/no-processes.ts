import childProcess, { ChildProcess } from 'node:child_process'
import { syncBuiltinESMExports } from 'node:module'
import { Server } from 'node:net'
import workerThreads from 'node:worker_threads'

/** What keeps the quick tests quick, and apart from each other: a process, a thread or a port is somebody else's test. */
const refuse = (what: string) =>
  function refused(): never {
    throw new Error(
      `a quick test may not ${what}: move it to a room that is not in QUICK_ROOMS of vitest.config.ts, such as test/e2e`
    )
  }

Object.assign(ChildProcess.prototype, { spawn: refuse('start a process') })
for (const name of ['spawnSync', 'execSync', 'execFileSync'] as const) childProcess[name] = refuse('start a process')
Object.assign(workerThreads, { Worker: refuse('start a thread') })
Server.prototype.listen = refuse('listen on a port')
syncBuiltinESMExports()
