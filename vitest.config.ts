import { existsSync } from 'node:fs'
import { defineConfig } from 'vitest/config'
import { LONG } from './test/counts.js'
import { PATIENCE } from './test/patience.js'

/** Rooms whose tests start no process and open no port, which test/no-processes.ts sees to: `npm run test:quick`. */
const QUICK_ROOMS = ['autodiff', 'base', 'codec', 'consensus', 'docs', 'infer', 'onnx', 'peft', 'tensor']
for (const room of QUICK_ROOMS)
  if (!existsSync(new URL(`test/${room}`, import.meta.url))) throw new Error(`vitest.config.ts: no folder test/${room}`)

/**
 * Rooms whose tests leave nothing behind in their process either, though they open files, threads and sessions. A test that
 * puts another module in a module's place is called `*.isolated.test.ts` and gets a process of its own.
 */
const TIDY_ROOMS = ['checkpoint', 'conformance', 'data', 'hub', 'node', 'pretrain', 'sim', 'status', 'testnet']
const ALL = 'test/**/*.test.ts'
const TIDY = [`test/{${TIDY_ROOMS.join(',')}}/**/!(*.isolated).test.ts`]
const QUICK = ['test/*.test.ts', `test/{${QUICK_ROOMS.join(',')}}/**/*.test.ts`]

export default defineConfig({
  test: {
    // One more than the cores of a small machine: tests of daemons wait as much as they compute.
    maxWorkers: 3,
    projects: [
      {
        test: {
          name: 'quick',
          // Rooms without a state of their own: what they import is loaded once for all.
          isolate: false,
          include: QUICK,
          setupFiles: ['test/setup.ts', 'test/no-processes.ts'],
          expect: { poll: PATIENCE },
          testTimeout: LONG ? 600_000 : 60_000,
          hookTimeout: 60_000
        }
      },
      {
        test: {
          name: 'tidy',
          isolate: false,
          include: TIDY,
          setupFiles: ['test/setup.ts'],
          expect: { poll: PATIENCE },
          // Only what hangs ends here: a daemon that starts beside nine others takes a minute.
          testTimeout: LONG ? 1_200_000 : 300_000,
          hookTimeout: 300_000
        }
      },
      {
        test: {
          name: 'whole',
          include: [ALL],
          // Installing from the registry takes a minute: continuous integration does it by name.
          exclude: [...QUICK, ...TIDY, ...(LONG ? [] : ['test/long/**'])],
          setupFiles: ['test/setup.ts'],
          expect: { poll: PATIENCE },
          // Only what hangs ends here: a daemon that starts beside nine others takes a minute.
          testTimeout: LONG ? 1_200_000 : 300_000,
          hookTimeout: 300_000
        }
      }
    ]
  }
})
