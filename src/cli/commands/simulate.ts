import { isPeertuneError, PeertuneError } from '../../base/errors.js'
import { type Environment, fieldName } from '../../node/config/config.js'
import type { Origin } from '../../node/config/fields.js'
import type { SourceOptions } from '../../node/config/model-source.js'
import { openTrainedSimulation, type TrainedSimulation } from '../../sim/workload/trained-simulation.js'
import { readYamlFile, type YamlFile } from '../../node/host/yaml-file.js'
import type { Measurement } from '../../sim/verdict/measure.js'
import { plot } from '../../sim/verdict/plot.js'
import { type RunResult, runScenario } from '../../sim/run.js'
import { readScenario, type Scenario } from '../../sim/world/scenario.js'
import { EXIT_FAILURE, EXIT_OK } from '../failure.js'
import { hubProgress } from '../hub-progress.js'
import type { Output } from '../output.js'

export interface SimulateOptions {
  /** The scenario. */
  readonly file: string
  readonly seed?: string
  readonly json?: boolean
  readonly plot?: boolean
}

/** Lines of the table; of more measurements some are left out. */
const MAX_ROWS = 20

/** Simulates a scenario. Exit code 1 when a promise was broken; the seed that is printed plays it again. */
export async function simulate(options: SimulateOptions, env: Environment, out: Output): Promise<number> {
  const yaml = await readYamlFile(options.file)
  const scenario = scenarioOf(yaml, options)
  const training = await trainingOf(scenario, yaml, { env, observer: hubProgress() })
  const result = await runScenario(scenario, training && { training }).finally(() => training?.close())
  if (options.json) out.json(jsonOf(result))
  else
    for (const line of [...table(result), ...(options.plot ? drawing(result) : []), ...summary(result)]) out.line(line)
  return result.violations.length === 0 ? EXIT_OK : EXIT_FAILURE
}

/** Absent where the workload is a problem of its own. */
async function trainingOf(
  { training: section, peers }: Scenario,
  yaml: YamlFile,
  sources: SourceOptions
): Promise<TrainedSimulation | undefined> {
  if (section === undefined) return undefined
  const origin: Origin = (path) =>
    `${yaml.file}:${yaml.line(['training', ...path])}: ${fieldName(['training', ...path])}`
  return openTrainedSimulation({ section, file: yaml.file, origin, peers, sources })
}

/** Throws `config/bad-scenario` with the line of the mistake. */
function scenarioOf(yaml: YamlFile, { seed }: Pick<SimulateOptions, 'seed'>): Scenario {
  try {
    const scenario = readScenario(yaml.value ?? {})
    return seed === undefined ? scenario : { ...scenario, seed }
  } catch (error) {
    if (!isPeertuneError(error) || error.code !== 'config/bad-scenario') throw error
    const path = String(error.facts.path ?? '')
      .split(/[.[\]]+/)
      .filter((step) => step !== '')
    const line = yaml.line(path.map((step) => (/^\d+$/.test(step) ? Number(step) : step)))
    throw new PeertuneError(error.code, `${yaml.file}:${line}: ${error.message}`, { facts: error.facts })
  }
}

const inSeconds = (ms: number): string => `${(ms / 1000).toFixed(1)} s`

/** Everything but the vectors. */
const jsonOf = ({ measurements, ...rest }: RunResult) => ({
  ...rest,
  measurements: measurements.map(({ mean: _, ...one }) => one)
})

/** `%`: accuracy of the merged model, where one is trained. */
const columnsOf = (trained: boolean): readonly string[] => [
  'time',
  'distance',
  'of start',
  ...(trained ? ['merged loss', '%'] : ['loss above best']),
  'exchanges/peer',
  'MB sent',
  'running'
]

function table({ measurements, scenario }: RunResult): string[] {
  const every = Math.ceil(measurements.length / MAX_ROWS)
  const shown = measurements.filter((_, i) => i % every === 0 || i === measurements.length - 1)
  const rows = shown.map((one) => [
    inSeconds(one.atMs),
    one.distance.toExponential(2),
    startsTogether(measurements) ? '-' : one.error.toExponential(2),
    ...learned(one, scenario),
    one.exchangesPerPeer.toFixed(1),
    (one.bytes / 1e6).toFixed(1),
    String(one.running)
  ])
  const columns = columnsOf(scenario.workload.kind === 'trained')
  const widths = columns.map((name, i) => Math.max(name.length, ...rows.map((row) => row[i]!.length)))
  return [columns, ...rows].map((row) => row.map((cell, i) => cell.padStart(widths[i]!)).join('  '))
}

function learned({ merged, excessLoss }: Measurement, { workload }: Scenario): string[] {
  if (merged !== undefined) return [merged.loss.toFixed(4), (100 * merged.accuracy).toFixed(1)]
  return [workload.kind === 'none' ? '-' : excessLoss.toExponential(2)]
}

const startsTogether = ([first]: readonly Measurement[]): boolean => first?.distance === 0

/** Consensus distance and loss as measured; where peers start apart, what the overlay's gap promises. */
function drawing({ measurements, predictedExchanges }: RunResult): string[] {
  const predicted = predictedExchanges !== undefined && !startsTogether(measurements)
  const start = measurements[0]?.distance ?? 0
  const series = [
    {
      mark: '.',
      points: predicted
        ? measurements.map((one) => [one.atMs, start * 100 ** (-one.exchangesPerPeer / predictedExchanges)] as const)
        : []
    },
    { mark: 'o', points: measurements.map((one) => [one.atMs, one.excessLoss] as const) },
    { mark: '*', points: measurements.map((one) => [one.atMs, one.distance] as const) }
  ]
  return [
    '',
    '* consensus distance  o loss above best  . distance promised by the gap',
    ...plot(series, { xLabel: inSeconds })
  ]
}

/** What single peers have at the end, without being merged. */
function peersOf(peers: Measurement['peers']): string | undefined {
  if (peers === undefined) return undefined
  const span = (values: readonly number[], digits: number) =>
    `${Math.min(...values).toFixed(digits)} to ${Math.max(...values).toFixed(digits)}`
  const losses = peers.map(({ loss }) => loss)
  const accuracies = peers.map(({ accuracy }) => 100 * accuracy)
  return `peers by themselves: loss ${span(losses, 4)}, accuracy ${span(accuracies, 1)} %`
}

function summary(result: RunResult): string[] {
  const { scenario, exchanges, exchangesToShrink, predictedExchanges, spectralGap, drift, network, violations } = result
  const facts = [
    `${exchanges} exchanges, ${(network.bytes / 1e6).toFixed(1)} MB, ${network.lost} frames lost, ${network.cut} links cut`,
    spectralGap === undefined ? undefined : `spectral gap of the overlay ${spectralGap.toFixed(3)}`,
    exchangesToShrink === undefined
      ? undefined
      : `a hundredth of the start's distance after ${exchangesToShrink.toFixed(1)} exchanges per peer` +
        (predictedExchanges === undefined ? '' : `, at most ${predictedExchanges.toFixed(1)} expected`),
    drift === undefined ? undefined : `the weighted mean moved by ${drift.toExponential(1)} of itself`,
    peersOf(result.measurements.at(-1)?.peers),
    `seed ${scenario.seed}, trace ${result.traceHash.slice(0, 16)}`,
    ...violations.map(({ code, detail, atMs }) => `broken at ${inSeconds(atMs)}: ${code}: ${detail}`),
    violations.length === 0
      ? 'every promise kept'
      : `${violations.length} broken; --seed ${scenario.seed} plays it again`
  ]
  return ['', ...facts.filter((fact) => fact !== undefined)]
}
