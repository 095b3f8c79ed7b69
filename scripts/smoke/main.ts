import '../../src/base/polyfill.js'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { describeError } from '../../src/base/errors.js'
import { nodeBinaries } from './node-binaries.js'
import { describeSmoke, trySmoke } from './try-smoke.js'

const USAGE = `npm run smoke -- [--every-node]

The smallest federation that there is, on this machine's Node.js: an identity, two nodes that train and mix, one that is
killed and goes on. Any use of what Node.js has deprecated is a failure, in a dependency, too; other warnings are shown.

  --every-node   on every other Node.js of tools/nodes, too; they come from the npm registry and are kept in the cache
  --help`

/** The folder of tools/nodes, from dist/scripts/smoke/. */
const NODES = fileURLToPath(new URL('../../../tools/nodes/', import.meta.url))
const CACHE = join(process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'peertune')

/** Exit codes: 0 it works on all, 1 not. */
async function main(): Promise<number> {
  const { values } = parseArgs({ options: { 'every-node': { type: 'boolean' }, help: { type: 'boolean' } } })
  if (values.help) {
    console.log(USAGE)
    return 0
  }
  const others = values['every-node'] ? await nodeBinaries(NODES, CACHE) : []
  let failed = 0
  for (const node of [process.execPath, ...others]) {
    const result = await trySmoke(node)
    console.log(describeSmoke(result))
    if (result.complaints.length > 0) failed++
  }
  return failed === 0 ? 0 : 1
}

main().then(
  (code) => process.exit(code),
  (error) => {
    console.error(describeError(error))
    process.exit(1)
  }
)
