import { FRAME_TIMEOUT_MS } from '../../src/node/pairwise/driver.js'
import { readDisturbances, UNDISTURBED } from './disturbances.js'
import type { TestnetOptions } from './options.js'
import { describeReport, type TestnetReport } from './report.js'
import { runTestnet } from './testnet.js'

/** Nats, or share of the examples: what all that goes wrong may cost the merged adapter. */
const MAX_LOST = 0.03
/** Nobody may stand still for longer than one exchange that gets no answer. */
const MAX_STALL_MS = FRAME_TIMEOUT_MS

/** The network as `options` describe it; with a scenario, beside the same network left in peace. */
export async function runScenario(options: TestnetOptions, signal: AbortSignal): Promise<TestnetReport> {
  if (options.scenario === undefined) return runTestnet(options, UNDISTURBED, signal)
  const disturbances = await readDisturbances(options.scenario, options.peers)
  const keep = (name: string) => (options.keep === undefined ? undefined : `${options.keep}/${name}`)
  const peace = options.undisturbed
    ? await runTestnet({ ...options, central: false, localOnly: false, keep: keep('undisturbed') }, UNDISTURBED, signal)
    : undefined
  if (peace !== undefined) console.log(`${describeReport(peace)}\n\nand now with disturbances\n`)
  const report = await runTestnet({ ...options, keep: keep('disturbed') }, disturbances, signal)
  if (peace === undefined) return report
  const { merged, seconds, stalls, refusals } = peace
  const lost = report.metric === 'accuracy' ? merged - report.merged : report.merged - merged
  return { ...report, undisturbed: { merged, seconds, stalls, refusals, lost } }
}

/** What a disturbed run has not kept of its promises, in words; nothing where all is well. */
export function brokenPromises(report: TestnetReport): readonly string[] {
  const { timeline, stalls, refusals, undisturbed, metric } = report
  if (timeline.length === 0) return []
  const unit = metric === 'accuracy' ? 'of the examples' : 'nats'
  const unexplained = refusals.filter(({ reason }) => reason === undefined).map(({ code }) => code)
  return [
    ...(undisturbed !== undefined && undisturbed.lost > MAX_LOST
      ? [`the disturbances cost ${undisturbed.lost.toFixed(3)} ${unit}, at most ${MAX_LOST} allowed`]
      : []),
    ...(stalls.exchangeMs > MAX_STALL_MS ? [`a peer waited ${stalls.exchangeMs} ms for an exchange`] : []),
    ...(stalls.stepMs > MAX_STALL_MS ? [`a peer waited ${stalls.stepMs} ms for a local step`] : []),
    ...report.comebacks.flatMap(({ peer, kept }) =>
      kept ? [] : [`peer ${peer} was killed and went on with other parameters`]
    ),
    ...(unexplained.length > 0 ? [`refused or failed without a known reason: ${unexplained.join(', ')}`] : [])
  ]
}
