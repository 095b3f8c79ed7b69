import { PeertuneError } from '../../src/base/errors.js'
import { ATTACKS, dissensus, gradientAssembly, mimic, signFlip } from '../../src/sim/attack/attacks.js'
import { SUGGESTED_MAX_PULL } from '../../src/consensus/rules/mixing.js'
import { SUGGESTED_CLIP } from '../../src/consensus/rules/radius.js'
import { MAX_WEIGHT } from '../../src/consensus/weight.js'
import { attackExperiment, type Defence, type ExperimentInit, type AttackCase } from './attack-experiment.js'
import { ATTACK_TASKS, type AttackTaskName } from './attack-tasks.js'
import { rowsOf } from '../flags.js'

const PEERS = 16
const ATTACKERS = 4
const SPLITS: readonly (number | undefined)[] = [undefined, 0.3]

const MEAN = 'mean'
/** The default last, beside the plain mean; the others with `--rules`. */
const DEFENCES: Readonly<Record<string, Defence>> = {
  [MEAN]: {},
  default: { clip: SUGGESTED_CLIP, maxPull: SUGGESTED_MAX_PULL },
  'clip alone': { clip: SUGGESTED_CLIP },
  'trimmed mean': { robust: { rule: 'trimmed-mean', window: 5, liars: 2 } },
  nnm: { robust: { rule: 'nnm', window: 5, liars: 2 } },
  balance: { robust: { rule: 'balance', strictness: 1, decay: 1 } },
  ubar: { robust: { rule: 'ubar', window: 5, share: 0.4 } },
  'nnm + clip': { clip: SUGGESTED_CLIP, robust: { rule: 'nnm', window: 5, liars: 2 } }
}

/** int8 codes blocks of 256: a binary16 scale, then the codes. What the scale is decides what the block is. */
const scaled = (pattern: number) => (honest: Uint8Array) => {
  const lie = new Uint8Array(honest.length).fill(127)
  const blocks = Math.ceil(honest.length / 258)
  for (let block = 0; block < blocks; block++) lie.set([pattern & 255, pattern >> 8], 2 * block)
  return lie
}

/** Every attack, on every task; gradient assembly needs factors. */
function attackCases(task: AttackTaskName): Readonly<Record<string, AttackCase>> {
  const { pairs } = ATTACK_TASKS[task]('')
  const claimed = Object.entries(ATTACKS).map(([name, claims]) => [name, { claims }] as const)
  return {
    none: {},
    ...Object.fromEntries(claimed),
    'label-flip': { flipsLabels: true },
    nan: { payload: scaled(0x7e00) },
    infinite: { payload: scaled(0x7c00) },
    denormal: { payload: scaled(0x0001) },
    'stale-replay': { staleAfter: 3 },
    heavy: { claims: signFlip(), examples: MAX_WEIGHT },
    'heavy-mimic': { claims: mimic(), examples: MAX_WEIGHT },
    sybil: { claims: dissensus(), manyNames: true },
    ...(pairs.length === 0 ? {} : { 'gradient-assembly': { claims: gradientAssembly(pairs) } })
  }
}

interface Options {
  readonly seeds: readonly string[]
  readonly task: AttackTaskName
  readonly rules: readonly string[]
  readonly attacks: readonly (readonly [string, AttackCase])[]
}

function optionsFrom(args: readonly string[]): Options {
  const flagValue = (flag: string): string | undefined => {
    const at = args.indexOf(flag)
    return at < 0 ? undefined : (args[at + 1] ?? '')
  }
  const count = Number(flagValue('--seeds') ?? 3)
  if (!(Number.isSafeInteger(count) && count > 0))
    throw new PeertuneError('config/bad-flag', `--seeds needs a positive whole number, got ${flagValue('--seeds')}`)
  const task = flagValue('--task') ?? 'clouds'
  if (!Object.hasOwn(ATTACK_TASKS, task))
    throw new PeertuneError('config/bad-flag', `--task is one of ${Object.keys(ATTACK_TASKS).join(', ')}, got ${task}`)
  const prefix = args.includes('--held-out') ? 'unseen' : 'bench'
  return {
    seeds: Array.from({ length: count }, (_, i) => `${prefix}-${i}`),
    task: task as AttackTaskName,
    attacks: rowsOf(attackCases(task as AttackTaskName), flagValue('--only')),
    rules: args.includes('--rules') ? Object.keys(DEFENCES) : [MEAN, 'default']
  }
}

const meanOf = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length
const percent = (value: number): string => (100 * value).toFixed(1).padStart(6)

interface Row {
  readonly attack: string
  readonly rule: string
  readonly dirichlet: number | undefined
  readonly accuracy: number
  /** Below plain averaging without an attack, so that the rule's own price is in it. */
  readonly lost: number
  /** The same for the seed that loses most. */
  readonly mostLost: number
  readonly clipRate: number
  readonly refused: number
}

interface Cell extends Omit<Row, 'lost' | 'mostLost'> {
  /** By seed. */
  readonly accuracies: readonly number[]
}

/** What is attacked how, and what stands against it. */
interface Trial {
  readonly attack: Options['attacks'][number]
  readonly rule: string
  readonly dirichlet: number | undefined
}

function measure(options: Options, { attack: [attack, lie], rule, dirichlet }: Trial): Cell {
  const results = options.seeds.map((seed) => {
    const init: ExperimentInit = { task: options.task, peers: PEERS, attackers: ATTACKERS, seed, ...DEFENCES[rule] }
    return attackExperiment({ ...init, lie, ...(dirichlet === undefined ? {} : { dirichlet }) })
  })
  const accuracies = results.map(({ accuracy }) => accuracy)
  return {
    attack,
    rule,
    dirichlet,
    accuracies,
    accuracy: meanOf(accuracies),
    clipRate: meanOf(results.map(({ clipRate }) => clipRate)),
    refused: meanOf(results.map(({ refused }) => refused))
  }
}

/**
 * `npm run bench -- attack [--seeds N] [--held-out] [--task clouds|low-rank|words] [--rules] [--only ATTACK,...] [--json]`:
 * accuracy of the honest of 16 peers, 4 of which lie.
 */
export function run(args: readonly string[]): Promise<object> {
  const options = optionsFrom(args)
  const rows: Row[] = []
  for (const dirichlet of SPLITS) {
    console.log(
      `\n${options.task}, ${dirichlet === undefined ? 'labels alike' : `labels by Dirichlet ${dirichlet}`}: accuracy in %, (lost, by the worst seed)`
    )
    console.log(`${'attack'.padEnd(18)}${options.rules.map((rule) => rule.padStart(24)).join('')}`)
    const baseline = measure(options, { attack: ['none', {}], rule: MEAN, dirichlet }).accuracies
    for (const attack of options.attacks) {
      const cells = options.rules.map((rule) => {
        const { accuracies, ...row } = measure(options, { attack, rule, dirichlet })
        const losses = accuracies.map((accuracy, seed) => baseline[seed]! - accuracy)
        const [lost, mostLost] = [meanOf(losses), Math.max(...losses)]
        rows.push({ ...row, lost, mostLost })
        return `${percent(row.accuracy)} (${percent(lost)},${percent(mostLost)})`
      })
      console.log(`${attack[0].padEnd(18)}${cells.map((cell) => cell.padStart(24)).join('')}`)
    }
  }
  const worst = rows.filter(({ rule }) => rule === 'default').reduce((most, row) => (row.lost > most.lost ? row : most))
  const { seeds, task, rules } = options
  return Promise.resolve({ peers: PEERS, attackers: ATTACKERS, seeds, task, rules, worst, rows })
}
