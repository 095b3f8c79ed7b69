import { writeFileSync } from 'node:fs'
import { errorTables } from './document.js'
import { renderTables } from './render.js'

/** `npm run docs:errors`: writes docs/errors.md anew. */
function main(): number {
  const tables = errorTables('.')
  writeFileSync('docs/errors.md', renderTables(tables))
  const mute = [...tables.errors, ...tables.peers].filter(({ isMute }) => isMute)
  for (const { code } of mute) console.error(`${code}: nothing says what to do; add it to scripts/errors/advice.yaml`)
  return mute.length === 0 ? 0 : 1
}

process.exitCode = main()
