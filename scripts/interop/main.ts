import { spawnSync } from 'node:child_process'
import { parseArgs } from 'node:util'

const USAGE = `npm run interop -- --python PATH

Adapters, texts and the hub's cache against Hugging Face's own libraries: what is exported here is loaded there and the
other way round. PATH is a Python with torch, transformers and PEFT 0.21; without it (and without PEERTUNE_PYTHON) every
check is skipped, and says so.`

/** The checks of test/interop with the Python of the flag, or of the environment. */
function main(): number {
  const { values } = parseArgs({ options: { python: { type: 'string' }, help: { type: 'boolean' } } })
  if (values.help) {
    console.log(USAGE)
    return 0
  }
  const python = values.python ?? process.env.PEERTUNE_PYTHON
  if (python === undefined) console.error(USAGE)
  const env = { ...process.env, ...(python === undefined ? {} : { PEERTUNE_PYTHON: python }) }
  return spawnSync('npx', ['vitest', 'run', 'test/interop'], { env, stdio: 'inherit' }).status ?? 1
}

process.exit(main())
