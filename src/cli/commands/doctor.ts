import { resolve } from 'node:path'
import { type Environment, defaultDataDir } from '../../node/config/config.js'
import { type DeviceReport, type DoctorReport, examine } from '../../node/trained/doctor.js'
import { EXIT_FAILURE, EXIT_OK } from '../failure.js'
import type { Output } from '../output.js'

export interface DoctorCommandOptions {
  readonly dataDir?: string
  readonly json?: boolean
}

/** Looks at the machine; resolves with the exit code: 1 where a node could not run here. */
export async function doctor(options: DoctorCommandOptions, env: Environment, out: Output): Promise<number> {
  const dataDir = options.dataDir === undefined ? defaultDataDir(env) : resolve(options.dataDir)
  const report = await examine({ dataDir })
  if (options.json) out.json(report)
  else for (const line of doctorText(report)) out.line(line)
  return report.checks.some(({ state }) => state === 'fail') ? EXIT_FAILURE : EXIT_OK
}

/** A report as lines for a terminal. */
function doctorText({ checks, devices, auto }: DoctorReport): string[] {
  return [
    ...checks.map(({ name, state, sentence }) => `${state.padEnd(5)} ${name.padEnd(10)} ${sentence}`),
    '',
    ...devices.map(deviceLine),
    `device: auto uses ${auto.used}${auto.reason === undefined ? '' : ` (${auto.reason})`}`
  ]
}

function deviceLine({ device, answer, elapsedMs }: DeviceReport): string {
  const name = device.padEnd(7)
  if (answer.kind !== 'works') return `${name} ${answer.kind}: ${answer.reason}`
  return `${name} works, runs ${Math.round(100 * answer.nodeShare)} % of a small graph's nodes itself, ${elapsedMs} ms`
}
