import { federationHash } from '../../base/federation.js'
import { MAX_EDGES } from '../../consensus/exchange/edges.js'
import { createManifest, printManifest, readManifest } from '../../node/config/manifest.js'
import { modelSha256 } from '../../node/config/model-hash.js'
import { wholeFlag } from '../flags.js'
import type { Output } from '../output.js'

/** Prints the hash by which peers know each other. */
export async function hashFederation(file: string, { json }: { readonly json?: boolean }, out: Output): Promise<void> {
  const manifest = await readManifest(file)
  const hash = federationHash(manifest)
  if (json) out.json({ name: manifest.name, hash })
  else out.line(hash)
}

export interface CreateFederationOptions {
  readonly model: string
  readonly name: string
  readonly task: string
  readonly labels?: readonly string[]
  readonly method: string
  readonly targets?: readonly string[]
  readonly head?: readonly string[]
  readonly rank?: string
  readonly alpha?: string
  readonly seed: string
  readonly localSteps?: string
  /** How many peers are expected. */
  readonly peers: string
  readonly codec?: string
  readonly fraction?: string
}

/** More than anybody has simulated here, a thousand times over. */
const MOST_PEERS = 10_000_000
/** A peer remembers so many partners; with more, a codec with a memory meets strangers. */
const FEW_PEERS = MAX_EDGES + 1
/** A fifteenth of float32's bytes to the same loss, where partners meet again (`npm run bench -- bytes`). */
const AMONG_FEW = { codec: 'topk-int4-edge', fraction: 0.25 } as const
/** Needs no memory. */
const AMONG_MANY = { codec: 'int8' } as const

/** Prints a manifest for a model, every default written out. */
export async function createFederation(options: CreateFederationOptions, out: Output): Promise<void> {
  const { alpha, head, labels, localSteps, method, rank, targets } = options
  const parts = {
    peertune: 1,
    name: options.name,
    model: { sha256: await modelSha256(options.model) },
    task: given({ kind: options.task, labels }),
    peft: given({ method, rank: numeric(rank), alpha: numeric(alpha), targets, head, seed: options.seed }),
    mixing: given({ localSteps: numeric(localSteps), ...codecOf(options) })
  }
  out.text(printManifest(createManifest(parts, (path) => FLAG_OF[path.slice(0, 2).join('.')] ?? `--${path.at(-1)}`)))
}

/** The codec that is asked for, or the one that fits so many peers. */
function codecOf({ codec, fraction, peers }: CreateFederationOptions) {
  const asked = fraction === undefined ? {} : { fraction: numeric(fraction) }
  if (codec !== undefined) return { codec, ...asked }
  const expected = wholeFlag('--peers', peers, { min: 1, max: MOST_PEERS })
  return { ...(expected > FEW_PEERS ? AMONG_MANY : AMONG_FEW), ...asked }
}

/** Flags whose name is not that of the field. */
const FLAG_OF: Readonly<Record<string, string>> = { 'task.kind': '--task', 'mixing.localSteps': '--local-steps' }

const given = (parts: Readonly<Record<string, unknown>>) =>
  Object.fromEntries(Object.entries(parts).filter(([, value]) => value !== undefined))

/** A number where it is one; anything else stays, for the check to show. */
const numeric = (text: string | undefined): number | string | undefined =>
  text === undefined || text.trim() === '' || Number.isNaN(Number(text)) ? text : Number(text)
