import { federationHash } from '../../base/federation.js'
import { createManifest, printManifest, readManifest } from '../../node/manifest.js'
import { modelSha256 } from '../../node/model-hash.js'
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
}

/** Prints a manifest for a model, every default written out. */
export async function createFederation(options: CreateFederationOptions, out: Output): Promise<void> {
  const { alpha, head, labels, localSteps, method, rank, targets } = options
  const parts = {
    peertune: 1,
    name: options.name,
    model: { sha256: await modelSha256(options.model) },
    task: given({ kind: options.task, labels }),
    peft: given({ method, rank: numeric(rank), alpha: numeric(alpha), targets, head, seed: options.seed }),
    mixing: given({ localSteps: numeric(localSteps) })
  }
  out.text(printManifest(createManifest(parts, (path) => FLAG_OF[path.slice(0, 2).join('.')] ?? `--${path.at(-1)}`)))
}

/** Flags whose name is not that of the field. */
const FLAG_OF: Readonly<Record<string, string>> = { 'task.kind': '--task', 'mixing.localSteps': '--local-steps' }

const given = (parts: Readonly<Record<string, unknown>>) =>
  Object.fromEntries(Object.entries(parts).filter(([, value]) => value !== undefined))

/** A number where it is one; anything else stays, for the check to show. */
const numeric = (text: string | undefined): number | string | undefined =>
  text === undefined || text.trim() === '' || Number.isNaN(Number(text)) ? text : Number(text)
