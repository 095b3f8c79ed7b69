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
  attack: () => import('./attack.js'),
  bytes: () => import('./bytes.js'),
  clinc: () => import('./clinc.js'),
  codecs: () => import('./codecs.js'),
  conformance: () => import('./conformance.js'),
  start: () => import('./start.js'),
  'exchange-loop': () => import('./exchange-loop.js'),
  'exchange-log': () => import('./exchange-log.js'),
  jsonl: () => import('./jsonl.js'),
  methods: () => import('./methods.js'),
  mixing: () => import('./mixing.js'),
  overlays: () => import('./overlays.js'),
  ranks: () => import('./ranks.js'),
  rules: () => import('./rules.js'),
  scenarios: () => import('./scenarios.js'),
  simulate: () => import('./simulate.js'),
  quantised: () => import('./quantised.js'),
  sparse: () => import('./sparse.js'),
  step: () => import('./step.js'),
  'event-loop': () => import('./event-loop.js'),
  'text-loop': () => import('./text-loop.js'),
  'first-step': () => import('./first-step.js'),
  fuzz: () => import('./fuzz.js')
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
