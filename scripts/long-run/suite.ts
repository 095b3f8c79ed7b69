import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { complaintsAbout, ROOT, runNode } from './child.js'
import type { Outcome, Step } from './step.js'

/** What vitest writes of a run, as far as it is read. */
interface VitestReport {
  readonly numPassedTests: number
  readonly numFailedTests: number
  readonly numPendingTests: number
  readonly testResults: readonly {
    readonly name: string
    readonly status: string
    readonly assertionResults: readonly { readonly status: string; readonly fullName: string }[]
  }[]
}

export const suite: Step = {
  name: 'tests',
  what: 'every test, with ten times the random cases and the full number of simulated networks (test/counts.ts)',
  command: 'PEERTUNE_TEST_COUNTS=long npm test',
  async run() {
    const folder = await mkdtemp(join(tmpdir(), 'peertune-long-'))
    try {
      const file = join(folder, 'tests.json')
      const vitest = join(ROOT, 'node_modules/vitest/vitest.mjs')
      const args = [vitest, 'run', '--reporter=json', `--outputFile=${file}`]
      const ended = await runNode(args, { PEERTUNE_TEST_COUNTS: 'long' })
      const report = await readFile(file, 'utf8').catch(() => undefined)
      return report === undefined
        ? { facts: {}, complaints: [...complaintsAbout(ended), 'no test was run'] }
        : outcomeOf(JSON.parse(report) as VitestReport)
    } finally {
      await rm(folder, { recursive: true, force: true })
    }
  }
}

export function outcomeOf({ testResults, numPassedTests, numFailedTests, numPendingTests }: VitestReport): Outcome {
  const failed = testResults.flatMap(({ name, status, assertionResults }) => {
    const file = name.startsWith(ROOT) ? name.slice(ROOT.length) : name
    const tests = assertionResults
      .filter((one) => one.status === 'failed')
      .map(({ fullName }) => `${file}: ${fullName}`)
    return status === 'failed' && tests.length === 0 ? [`${file}: the file itself`] : tests
  })
  return {
    facts: { files: testResults.length, passed: numPassedTests, failed: numFailedTests, skipped: numPendingTests },
    complaints: failed
  }
}
