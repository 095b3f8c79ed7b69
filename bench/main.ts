import '../src/base/polyfill.js'
import { describeError } from '../src/base/errors.js'

/**
 * `npm run bench -- NAME [--json] [options]`. Each bench is a module of this folder that exports `run(args)` and returns
 * what it measured; with `--json` that is printed as one JSON object on the last line.
 */
export interface Bench {
  run(args: readonly string[]): Promise<unknown>
}

const BENCHES: Readonly<Record<string, () => Promise<Bench>>> = {
  attack: () => import('./mixing/attack.js'),
  bytes: () => import('./federations/bytes.js'),
  clinc: () => import('./federations/clinc.js'),
  codecs: () => import('./wire/codecs.js'),
  conformance: () => import('./training/conformance.js'),
  start: () => import('./training/start.js'),
  'exchange-loop': () => import('./mixing/exchange-loop.js'),
  'exchange-log': () => import('./mixing/exchange-log.js'),
  jsonl: () => import('./data/jsonl.js'),
  methods: () => import('./federations/methods.js'),
  mixing: () => import('./mixing/mixing.js'),
  overlays: () => import('./mixing/overlays.js'),
  ranks: () => import('./federations/ranks.js'),
  rules: () => import('./mixing/rules.js'),
  scenarios: () => import('./mixing/scenarios.js'),
  simulate: () => import('./mixing/simulate.js'),
  quantised: () => import('./training/quantised.js'),
  sparse: () => import('./federations/sparse.js'),
  step: () => import('./training/step.js'),
  'event-loop': () => import('./training/event-loop.js'),
  'text-loop': () => import('./data/text-loop.js'),
  'first-step': () => import('./training/first-step.js'),
  fuzz: () => import('./wire/fuzz.js')
}

const [name = '', ...args] = process.argv.slice(2)
const load = BENCHES[name]
if (load === undefined) {
  console.error(`usage: npm run bench -- NAME [--json]; NAME is one of ${Object.keys(BENCHES).join(', ')}`)
  process.exitCode = 2
} else {
  try {
    const result = await (await load()).run(args.filter((argument) => argument !== '--json'))
    if (args.includes('--json')) console.log(JSON.stringify(result))
  } catch (error) {
    console.error(describeError(error))
    process.exitCode = 1
  }
}
