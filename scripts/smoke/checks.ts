import '../../src/base/polyfill.js'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { checkFederation } from './federation.js'
import { checkIdentity } from './identity.js'

/** Runs as a process of its own, on the Node.js that is tried. Exit codes: 0 all is well, 1 not. */
async function main(): Promise<number> {
  console.log(`Node.js ${process.versions.node}`)
  const folder = await mkdtemp(join(tmpdir(), 'peertune-smoke-'))
  try {
    const complaints = [...(await checkIdentity(folder)), ...(await checkFederation(folder))]
    for (const complaint of complaints) console.error(complaint)
    return complaints.length === 0 ? 0 : 1
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

main().then(
  (code) => process.exit(code),
  (error) => {
    console.error(error)
    process.exit(1)
  }
)
