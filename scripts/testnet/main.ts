import '../../src/base/polyfill.js'
import { writeFile } from 'node:fs/promises'
import { resolve } from 'node:path'
import { CONFIG_ERROR_PREFIX, describeError, isPeertuneError } from '../../src/base/errors.js'
import { parseOptions, USAGE } from './options.js'
import { describeReport, mixingWon } from './report.js'
import { brokenPromises, runScenario } from './churn.js'

/** Exit codes: 0 every peer finished, mixing beat training alone and no disturbance did harm, 1 not, 2 wrong usage. */
async function main(): Promise<number> {
  const options = parseOptions(process.argv.slice(2))
  if (options === 'help') {
    console.log(USAGE)
    return 0
  }
  const interrupt = new AbortController()
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => interrupt.abort())
  const report = await runScenario(options, interrupt.signal)
  await writeFile(options.report, `${JSON.stringify(report, null, 2)}\n`)
  console.log(`${describeReport(report)}\n\nreport: ${resolve(options.report)}`)
  const complaints = [
    ...(mixingWon(report) ? [] : ['the mixed peers did not beat the peers that trained alone']),
    ...brokenPromises(report)
  ]
  for (const complaint of complaints) console.error(complaint)
  return complaints.length === 0 ? 0 : 1
}

main().then(
  (code) => process.exit(code),
  (error) => {
    console.error(describeError(error))
    process.exit(isPeertuneError(error) && error.code.startsWith(CONFIG_ERROR_PREFIX) ? 2 : 1)
  }
)
