import { readFile } from 'node:fs/promises'
import { parametersSha256, RESUMED } from '../../src/node/resumed.js'
import { readTrained } from '../../src/node/trained.js'
import type { ParameterSchema } from '../../src/tensor/schema.js'
import type { Scenario } from './scenario.js'
import type { FinishedPeer } from './testnet.js'

/** A peer that was killed, and what it went on from. */
export interface Comeback {
  readonly peer: number
  /** What it left on the disk, its exchange log included. */
  readonly step: number
  readonly exchanges: number
  /** It went on with exactly that, to the last bit of every parameter. */
  readonly kept: boolean
}

interface Resumed {
  readonly step: number
  readonly exchanges: number
  readonly sha256: string
}

/** Compares, for each crash that left a checkpoint, what was on the disk with what the next life said it went on with. */
export async function comebacksOf(
  scenario: Scenario,
  schema: ParameterSchema,
  { index, crashes, log }: FinishedPeer
): Promise<readonly Comeback[]> {
  const left = await Promise.all(crashes.map((folder) => readTrained(folder, scenario.manifest, schema)))
  const states = left.filter((state) => state !== undefined)
  const resumed = await resumedIn(log)
  return states.map(({ step, exchanges, parameters }, life) => {
    const next = resumed[life]
    const same = next?.step === step && next.exchanges === exchanges
    return { peer: index, step, exchanges, kept: same && next.sha256 === parametersSha256(parameters) }
  })
}

/** From the log of all lives of a peer, in order. */
async function resumedIn(log: string): Promise<readonly Resumed[]> {
  const lines = (await readFile(log, 'utf8')).split('\n')
  return lines.filter((line) => line.includes(RESUMED)).map((line) => JSON.parse(line) as Resumed)
}
