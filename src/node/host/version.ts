import { readFileSync } from 'node:fs'

/** The package's version. Sources lie three folders below package.json, built files four. */
export function packageVersion(): string {
  for (const path of ['../../../package.json', '../../../../package.json']) {
    try {
      const { name, version } = JSON.parse(readFileSync(new URL(path, import.meta.url), 'utf8')) as Record<
        string,
        string
      >
      if (name === 'peertune' && version !== undefined) return version
    } catch {
      // Not there: the other place it is.
    }
  }
  return 'unknown'
}
