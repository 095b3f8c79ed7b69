import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { systemClock } from '../../src/base/clock.js'
import { onInterrupt } from '../testnet/on-interrupt.js'
import { isDeprecation, readWarnings, type Warning, warningOptions } from './warnings.js'

/** The built script that does the checks. */
const SMOKE = fileURLToPath(new URL('./checks.js', import.meta.url))

export interface SmokeResult {
  /** Path of the Node.js that ran it. */
  readonly node: string
  readonly seconds: number
  /** What must not be; empty where all is well. */
  readonly complaints: readonly string[]
  /** Warnings that are no complaint. */
  readonly warnings: readonly Warning[]
  /** All that was printed, its Node.js version first. */
  readonly output: string
}

/** Runs the smoke test on the given Node.js and listens to everything that it warns of. */
export async function trySmoke(node: string, script: string = SMOKE): Promise<SmokeResult> {
  const startedAt = systemClock.now()
  const folder = await mkdtemp(join(tmpdir(), 'peertune-warnings-'))
  try {
    const file = join(folder, 'warnings')
    const { ended, output } = await run(node, script, warningOptions(file))
    const warnings = existsSync(file) ? readWarnings(await readFile(file, 'utf8')) : []
    return {
      node,
      seconds: (systemClock.now() - startedAt) / 1000,
      complaints: [
        ...(ended === 'exit code 0' ? [] : [`it ended with ${ended}`]),
        ...warnings.filter(isDeprecation).map(({ text }) => text)
      ],
      warnings: warnings.filter((warning) => !isDeprecation(warning)),
      output
    }
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

function run(node: string, script: string, options: string): Promise<{ ended: string; output: string }> {
  return new Promise((resolve, reject) => {
    const child = spawn(node, [script], {
      env: { ...process.env, NODE_OPTIONS: `${process.env.NODE_OPTIONS ?? ''} ${options}` },
      stdio: ['ignore', 'pipe', 'pipe']
    })
    const over = onInterrupt(() => child.kill())
    let output = ''
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => (output += chunk))
    child.once('error', reject)
    child.once('close', (code, signal) => {
      over()
      resolve({ ended: signal ?? `exit code ${code}`, output })
    })
  })
}

/** A line where all is well, everything there is to know where not. */
export function describeSmoke({ node, seconds, complaints, warnings, output }: SmokeResult): string {
  const well = complaints.length === 0
  const [version] = output.split('\n')
  return [
    `${well ? 'ok  ' : 'FAIL'} ${version} ${seconds.toFixed(1)} s${well ? '' : ` (${node})`}`,
    ...warnings.map(({ text }) => `warning: ${text}`),
    ...(well ? [] : [output, ...complaints])
  ].join('\n')
}
