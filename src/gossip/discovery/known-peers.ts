import { readFile, rename, writeFile } from 'node:fs/promises'
import { describeError } from '../../base/errors.js'
import type { Logger } from '../../base/log.js'
import type { Candidate } from './discovery.js'
import { MAX_ADDRESSES_PER_PEER, MAX_KNOWN_PEERS, MAX_KNOWN_PEERS_BYTES } from '../limits.js'

const VERSION = 1

/**
 * Reads the peers of the last run: `{ "peertune": 1, "peers": [{ "peer": "…", "addresses": ["…"] }] }`.
 * A missing or broken file is no reason not to start: it gives an empty list, and the broken one a warning.
 */
export async function readKnownPeers(path: string, log: Logger): Promise<readonly Candidate[]> {
  let text: string
  try {
    text = await readFile(path, 'utf8')
  } catch {
    return []
  }
  const peers = text.length <= MAX_KNOWN_PEERS_BYTES ? parse(text) : undefined
  if (peers === undefined) log.warn({ path }, 'The file of remembered peers is unreadable and will be replaced')
  return peers ?? []
}

function parse(text: string): readonly Candidate[] | undefined {
  try {
    const file: unknown = JSON.parse(text)
    if (!isRecord(file) || file.peertune !== VERSION || !Array.isArray(file.peers)) return undefined
    return file.peers.filter(isCandidate).slice(0, MAX_KNOWN_PEERS)
  } catch {
    return undefined
  }
}

const isRecord = (value: unknown): value is Record<string, unknown> => typeof value === 'object' && value !== null

const isCandidate = (value: unknown): value is Candidate =>
  isRecord(value) &&
  typeof value.peer === 'string' &&
  Array.isArray(value.addresses) &&
  value.addresses.every((address) => typeof address === 'string')

/** Replaces the file in one step; a failure is logged, because nothing depends on it. */
export async function writeKnownPeers(path: string, peers: readonly Candidate[], log: Logger): Promise<void> {
  const kept = peers
    .slice(0, MAX_KNOWN_PEERS)
    .map(({ peer, addresses }) => ({ peer, addresses: addresses.slice(0, MAX_ADDRESSES_PER_PEER) }))
  try {
    await writeFile(`${path}.new`, `${JSON.stringify({ peertune: VERSION, peers: kept }, undefined, 2)}\n`)
    await rename(`${path}.new`, path)
  } catch (error) {
    log.warn({ path, error: describeError(error) }, 'Could not save the remembered peers')
  }
}
