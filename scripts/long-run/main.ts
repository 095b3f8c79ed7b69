import '../../src/base/polyfill.js'
import { mkdir, writeFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { systemClock } from '../../src/base/clock.js'
import { describeError, PeertuneError } from '../../src/base/errors.js'
import { ROOT } from './child.js'
import { allWell, reportText, thisMachine } from './report.js'
import { runPhases } from './run-phases.js'
import { simulations } from './simulations.js'
import { soak } from './soak.js'
import type { LongReport } from './step.js'
import { suite } from './suite.js'
import { testnets } from './testnets.js'

/** Simulations keep one core busy each, everything else both. */
const PHASES = [
  { atOnce: 1, steps: [suite] },
  { atOnce: 2, steps: simulations },
  { atOnce: 1, steps: [...testnets, soak] }
]
const NAMES = PHASES.flatMap(({ steps }) => steps.map(({ name }) => name))
const RESULTS = join(ROOT, 'docs/results')

const USAGE = `npm run test:long -- [options]

Everything with full counts: half an hour on two idle cores. The result goes to docs/results, as JSON and as a page.

  --only NAME    one part alone, or several (repeat it): ${NAMES.join(', ')}; the result goes nowhere without --out
  --out DIR      where the result goes
  --help`

function parse() {
  const { values } = parseArgs({
    options: { only: { type: 'string', multiple: true }, out: { type: 'string' }, help: { type: 'boolean' } }
  })
  const unknown = values.only?.find((name) => !NAMES.includes(name))
  if (unknown !== undefined)
    throw new PeertuneError('long/bad-flag', `--only needs one of ${NAMES.join(', ')}, got ${unknown}`)
  return values
}

/** Exit codes: 0 everything held, 1 not. */
async function main(): Promise<number> {
  const { only, out, help } = parse()
  if (help) {
    console.log(USAGE)
    return 0
  }
  const phases = PHASES.map(({ atOnce, steps }) => ({
    atOnce,
    steps: steps.filter(({ name }) => only === undefined || only.includes(name))
  }))
  const startedAt = systemClock.now()
  const machine = thisMachine()
  const steps = await runPhases(phases, systemClock.now, console.log)
  const seconds = (systemClock.now() - startedAt) / 1000
  const report: LongReport = { day: new Date(startedAt).toISOString().slice(0, 10), machine, seconds, steps }
  const folder = out === undefined ? (only === undefined ? RESULTS : undefined) : resolve(out)
  if (folder !== undefined) await save(folder, report)
  return allWell(report) ? 0 : 1
}

async function save(folder: string, report: LongReport): Promise<void> {
  await mkdir(folder, { recursive: true })
  await writeFile(join(folder, 'long-run.json'), `${JSON.stringify(report, null, 2)}\n`)
  await writeFile(join(folder, 'long-run.md'), reportText(report))
  console.log(`result: ${join(folder, 'long-run.md')}`)
}

main().then(
  (code) => process.exit(code),
  (error) => {
    console.error(describeError(error))
    process.exit(1)
  }
)
