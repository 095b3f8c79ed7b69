import { join } from 'node:path'
import { readAdvice } from './advice.js'
import { collectCodes } from './collect.js'
import { refusalCodes } from './refusals.js'
import { readSources } from './sources.js'
import { type Tables, tablesOf } from './tables.js'

/** Both tables of docs/errors.md, from the sources and the advice of the project in `root`. */
export function errorTables(root: string): Tables {
  const files = readSources(join(root, 'src'))
  const advice = readAdvice(join(root, 'scripts/errors/advice.yaml'))
  return tablesOf(collectCodes(files), refusalCodes(files), advice)
}
