import { PeertuneError } from '../src/base/errors.js'
import { type AttackName, ATTACKS } from '../src/consensus/attacks.js'
import { attackExperiment } from './attack-experiment.js'

const PEERS = 16
const ATTACKERS = 4
/** Without a bound, and by so many median distances. */
const CLIPS: readonly (number | undefined)[] = [undefined, 2, 1, 0.5]
const SPLITS: readonly (number | undefined)[] = [undefined, 0.3]

function seedsFrom(args: readonly string[]): readonly string[] {
  const at = args.indexOf('--seeds')
  const count = at < 0 ? 3 : Number(args[at + 1])
  if (!(Number.isSafeInteger(count) && count > 0))
    throw new PeertuneError('config/bad-flag', `--seeds needs a positive whole number, got ${args[at + 1]}`)
  return Array.from({ length: count }, (_, i) => `bench-${i}`)
}

const meanOf = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length

const percent = (value: number): string => (100 * value).toFixed(1).padStart(6)

/** `npm run bench -- attack [--seeds N] [--json]`: accuracy of the honest of 16 peers, 4 of which lie. */
export function run(args: readonly string[]): Promise<object> {
  const seeds = seedsFrom(args)
  const names: readonly (AttackName | 'none')[] = ['none', ...(Object.keys(ATTACKS) as AttackName[])]
  const rows: object[] = []
  for (const dirichlet of SPLITS) {
    console.log(
      `\n${dirichlet === undefined ? 'labels alike' : `labels split by Dirichlet ${dirichlet}`}: accuracy in %`
    )
    console.log(
      `${'attack'.padEnd(14)}${CLIPS.map((clip) => (clip === undefined ? 'mean' : `clip ${clip}`).padStart(10)).join('')}`
    )
    for (const name of names) {
      const accuracies = CLIPS.map((clip) => {
        const results = seeds.map((seed) =>
          attackExperiment({
            peers: PEERS,
            attackers: ATTACKERS,
            seed,
            ...(name === 'none' ? {} : { attack: ATTACKS[name] }),
            ...(dirichlet === undefined ? {} : { dirichlet }),
            ...(clip === undefined ? {} : { clip })
          })
        )
        const row = { attack: name, dirichlet, clip }
        const accuracy = meanOf(results.map((result) => result.accuracy))
        rows.push({ ...row, accuracy, clipRate: meanOf(results.map((result) => result.clipRate)) })
        return accuracy
      })
      console.log(`${name.padEnd(14)}${accuracies.map((accuracy) => `    ${percent(accuracy)}`).join('')}`)
    }
  }
  return Promise.resolve({ peers: PEERS, attackers: ATTACKERS, seeds, rows })
}
