import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { onInterrupt } from '../testnet/on-interrupt.js'

/** The root of the package, from dist/scripts/long-run/. */
export const ROOT = fileURLToPath(new URL('../../../', import.meta.url))

/** Bytes of output kept of one child. */
const MAX_OUTPUT = 64 * 2 ** 20
/** Lines of a failed child's last words. */
const LAST_LINES = 20

export interface Ended {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

/** Runs this Node.js on `args` in the root of the package, with `env` beside the environment. */
export function runNode(args: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<Ended> {
  return new Promise((resolve) => {
    const options = { cwd: ROOT, env: { ...process.env, ...env }, maxBuffer: MAX_OUTPUT }
    const child = execFile(process.execPath, args, options, (error, stdout, stderr) => {
      over()
      const code = error === null ? 0 : typeof error.code === 'number' ? error.code : 1
      resolve({ code, stdout, stderr: error === null || stderr !== '' ? stderr : error.message })
    })
    const over = onInterrupt(() => child.kill())
  })
}

/** A complaint where the child failed, with its last words. */
export function complaintsAbout({ code, stdout, stderr }: Ended): string[] {
  if (code === 0) return []
  const words = (stderr.trim() === '' ? stdout : stderr).trim().split('\n').slice(-LAST_LINES)
  return [`it ended with exit code ${code}: ${words.join('\n')}`]
}

/** The JSON object on the last line of what a bench prints; absent where there is none. */
export function lastJson<T>({ stdout }: Ended): T | undefined {
  try {
    return JSON.parse(stdout.trimEnd().split('\n').at(-1) ?? '') as T
  } catch {
    return undefined
  }
}
