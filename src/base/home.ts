import { homedir } from 'node:os'
import { PeertuneError } from './errors.js'

export type HomeVariables = Readonly<Record<string, string | undefined>>

/**
 * $HOME, or what the system has for this user, who in a container may be a bare number without any. Throws
 * `base/no-home`.
 */
export function homeFolder(env: HomeVariables, lookUp: () => string = homedir): string {
  if (env.HOME) return env.HOME
  try {
    return lookUp()
  } catch (cause) {
    throw new PeertuneError('base/no-home', 'this user has no home folder', {
      hint: 'set HOME to a folder that can be written',
      cause
    })
  }
}
