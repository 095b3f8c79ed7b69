import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { mean, type TestnetReport } from '../testnet/report.js'
import { complaintsAbout, ROOT, runNode } from './child.js'
import type { Outcome, Step } from './step.js'

const SEEDS = ['one', 'two', 'three', 'four', 'five']

/** One run of the testnet; the report is absent where it did not come to one. */
async function testnet(flags: readonly string[]) {
  const folder = await mkdtemp(join(tmpdir(), 'peertune-long-'))
  try {
    const file = join(folder, 'report.json')
    const ended = await runNode([join(ROOT, 'dist/scripts/testnet/main.js'), ...flags, '--report', file])
    const text = await readFile(file, 'utf8').catch(() => undefined)
    return {
      report: text === undefined ? undefined : (JSON.parse(text) as TestnetReport),
      complaints: complaintsAbout(ended)
    }
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

/** Least, mean and most, as a person reads them. */
export function spread(values: readonly number[], digits = 3): string {
  if (values.length === 0) return '-'
  return [Math.min(...values), mean(values), Math.max(...values)].map((value) => value.toFixed(digits)).join(' / ')
}

async function runAll(): Promise<Outcome> {
  const reports: TestnetReport[] = []
  const complaints: string[] = []
  for (const seed of SEEDS) {
    const ended = await testnet(['--seed', seed])
    if (ended.report !== undefined) reports.push(ended.report)
    complaints.push(...ended.complaints.map((complaint) => `seed ${seed}: ${complaint}`))
  }
  const alone = reports.map(({ peers }) =>
    mean(peers.flatMap(({ localOnly }) => (localOnly === null ? [] : [localOnly])))
  )
  return {
    facts: {
      runs: reports.length,
      'merged, least / mean / most': spread(reports.map(({ merged }) => merged)),
      'mixed peers': spread(reports.map(({ peers }) => mean(peers.map(({ mixed }) => mixed)))),
      'local-only': spread(alone),
      'one machine with all data': spread(reports.flatMap(({ central }) => (central === null ? [] : [central]))),
      'seconds a run': spread(
        reports.map(({ seconds }) => seconds),
        1
      )
    },
    complaints
  }
}

async function runChurn(): Promise<Outcome> {
  const { report, complaints } = await testnet(CHURN)
  if (report === undefined) return { facts: {}, complaints: [...complaints, 'it came to no report'] }
  const { merged, undisturbed, timeline, stalls } = report
  return {
    facts: {
      disturbances: timeline.length,
      merged,
      'merged, left in peace': undisturbed?.merged ?? '-',
      'longest wait for an exchange, s': stalls.exchangeMs / 1000,
      'longest wait for a step, s': stalls.stepMs / 1000
    },
    complaints
  }
}

const CHURN = ['--scenario', 'examples/testnet/churn.yaml', '--no-central', '--no-local-only']

export const testnets: readonly Step[] = [
  {
    name: 'testnet',
    what: 'eight real processes learn together what none can alone, by five seeds; accuracy on twenty letters',
    command: 'npm run testnet -- --seed one',
    run: runAll
  },
  {
    name: 'churn',
    what: 'the same eight with two that are killed, two that come late and a network that is split, against a run in peace',
    command: `npm run testnet -- ${CHURN.join(' ')}`,
    run: runChurn
  }
]
