import { PeertuneError } from '../../src/base/errors.js'
import * as f from '../../src/node/config/fields.js'
import { readYamlFile } from '../../src/node/host/yaml-file.js'
import { MAX_PEERS } from './options.js'

/**
 * What goes wrong in a run. Moments are shares of the local steps that the peers of the first hour have taken, so that a
 * run on a slow machine is disturbed in the same places.
 */
export interface Disturbances {
  /** Peers that start only at `at`. */
  readonly late?: { readonly peers: readonly number[]; readonly at: number }
  /** Peers that get SIGKILL at `at` and are started again after a while. */
  readonly kill?: { readonly peers: readonly number[]; readonly at: number; readonly downSeconds: number }
  /** Between these moments the first half of the peers and the second deny each other. */
  readonly split?: { readonly from: number; readonly to: number }
}

export const UNDISTURBED: Disturbances = {}

const share = () => f.number({ min: 0, max: 1 })
const peers = () => f.list(f.wholeNumber(0, MAX_PEERS - 1), { of: 'peers', min: 1, max: MAX_PEERS, distinct: true })

const SCHEMA = f.section({
  late: f.section({ peers: peers(), at: share() }).exactOptional(),
  kill: f
    .section({ peers: peers(), at: share(), downSeconds: f.number({ min: 0, max: 600 }).default(4) })
    .exactOptional(),
  split: f.section({ from: share(), to: share() }).exactOptional()
})

/** Reads a scenario file. Throws `config/*`, naming file and line. */
export async function readDisturbances(file: string, count: number): Promise<Disturbances> {
  const yaml = await readYamlFile(file)
  const read = f.checkFields(SCHEMA, yaml.value, (path) => `${file}:${yaml.line(path)}`)
  const bad = (message: string) => new PeertuneError('config/bad-scenario', `${file}: ${message}`, { facts: { file } })
  const named = [...(read.late?.peers ?? []), ...(read.kill?.peers ?? [])]
  const unknown = named.find((peer) => peer >= count)
  if (unknown !== undefined) throw bad(`expected peers 0 to ${count - 1}, got ${unknown}`)
  if (named.includes(0)) throw bad('peer 0 is where the others meet; it starts first and stays')
  if ((read.late?.peers ?? []).some((peer) => read.kill?.peers.includes(peer)))
    throw bad('a peer comes late or is killed, not both')
  if (read.split !== undefined && read.split.to <= read.split.from) throw bad('split: expected to to be after from')
  return read
}

/** Which half of a split network a peer is in. */
export const halfOf = (peer: number, count: number): 0 | 1 => (peer < count / 2 ? 0 : 1)
