import { readFile } from 'node:fs/promises'
import type { FederationManifest } from '../../src/base/federation.js'
import { parametersSha256, RESUMED } from '../../src/node/learner/resumed.js'
import { readTrained } from '../../src/node/trained/trained.js'
import type { ParameterSchema } from '../../src/tensor/schema.js'
import type { Scenario } from './scenario.js'
import type { FinishedPeer } from './testnet-peer.js'

/** A peer that was killed, and what it went on from. */
export interface CrashRecovery {
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
export async function crashRecoveriesOf(
  { manifest }: Pick<Scenario, 'manifest'>,
  schema: ParameterSchema,
  { index, crashes, log }: Pick<FinishedPeer, 'index' | 'crashes' | 'log'>
): Promise<readonly CrashRecovery[]> {
  const left = await Promise.all(crashes.map(({ dataDir }) => leftIn(dataDir, manifest, schema)))
  const resumed = await resumedIn(log)
  return crashes.flatMap(({ nextPid }, life) => {
    const state = left[life]
    const next = nextPid === undefined ? undefined : resumed.get(nextPid)
    // Killed again before it had read anything: it left what it found, and the life after is the one to ask.
    if (state === undefined || (next === undefined && isSame(state, left[life + 1]))) return []
    const { step, exchanges } = state
    return [{ peer: index, step, exchanges, kept: isSame(state, next) }]
  })
}

const isSame = (one: Resumed, other: Resumed | undefined): boolean =>
  one.step === other?.step && one.exchanges === other.exchanges && one.sha256 === other.sha256

/** `undefined` where a crash came before the first checkpoint. */
async function leftIn(
  dataDir: string,
  manifest: FederationManifest,
  schema: ParameterSchema
): Promise<Resumed | undefined> {
  const state = await readTrained(dataDir, manifest, schema)
  return state && { step: state.step, exchanges: state.exchanges, sha256: parametersSha256(state.parameters) }
}

/** From the log of all lives of a peer, by process id. */
async function resumedIn(log: string): Promise<ReadonlyMap<number, Resumed>> {
  const lines = (await readFile(log, 'utf8')).split('\n').filter((line) => line.includes(RESUMED))
  return new Map(
    lines.map((line) => {
      const { pid, ...resumed } = JSON.parse(line) as Resumed & { readonly pid: number }
      return [pid, resumed]
    })
  )
}
