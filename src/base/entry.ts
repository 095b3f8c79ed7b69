import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { PeertuneError } from './errors.js'

/**
 * The built file that a child process or worker starts from, by its path below src: `entryUrl('node/model/trainer-main.js')`.
 * Children run plain JavaScript. A parent that runs from dist finds its sibling there; a parent that runs from src
 * (the test runner) is sent to dist, so tests of child processes need a build first.
 *
 * `here` is a module two levels below dist or the project root (src/ROOM/FILE). Throws `base/entry-not-built`.
 */
export function entryUrl(path: string, here: string = import.meta.url): URL {
  const url = new URL(here.endsWith('.ts') ? `../../dist/src/${path}` : `../${path}`, here)
  if (existsSync(url)) return url
  throw new PeertuneError('base/entry-not-built', `${fileURLToPath(url)} does not exist`, {
    facts: { path },
    hint: 'npm run build'
  })
}
