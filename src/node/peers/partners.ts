import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { CheckpointStore } from '../../checkpoint/store.js'
import type { PeerTable } from '../../consensus/partners/peers.js'
import { writePrivateFile } from '../host/private-file.js'

/** With whom a node has mixed, over all its lives: what a model card says of them. */
export interface Partners {
  /** Peers, this one left out. */
  readonly peers: number
  /** Training examples that they announced, together; those of peers that announced none are left out. */
  readonly samples: number
}

/** By peer id: examples that it announced, null where it never did. */
type Book = Readonly<Record<string, number | null>>

/** Peers kept; beyond any network that one peer mixes in, and a bound for the file. */
const MAX_PARTNERS = 100_000

const bookFile = (dataDir: string): string => join(dataDir, 'partners.json')

async function readBook(dataDir: string): Promise<Book> {
  try {
    const book: unknown = JSON.parse(await readFile(bookFile(dataDir), 'utf8'))
    return book !== null && typeof book === 'object' ? (book as Book) : {}
  } catch {
    return {}
  }
}

/** A store that, with each checkpoint, also writes down with whom this node has mixed. */
export function withPartnerBook(
  store: CheckpointStore,
  { dataDir, table }: { readonly dataDir: string; readonly table: () => PeerTable | undefined }
): CheckpointStore {
  return {
    load: (expected) => store.load(expected),
    async save(state) {
      await store.save(state)
      const found = Object.entries(partnersIn(table()))
      if (found.length === 0) return
      const before = await readBook(dataDir)
      const book = Object.entries({ ...before, ...Object.fromEntries(found) }).slice(0, MAX_PARTNERS)
      await writePrivateFile(bookFile(dataDir), `${JSON.stringify(Object.fromEntries(book))}\n`)
    }
  }
}

const partnersIn = (table: PeerTable | undefined): Book =>
  Object.fromEntries(
    Array.from(table?.exchanged.keys() ?? [], (peer) => [peer, table?.records.get(peer)?.announcement.samples ?? null])
  )

/** Undefined for a node that never wrote any down. */
export async function readPartners(dataDir: string): Promise<Partners | undefined> {
  const samples = Object.values(await readBook(dataDir))
  if (samples.length === 0) return undefined
  return { peers: samples.length, samples: samples.reduce<number>((sum, one) => sum + (one ?? 0), 0) }
}
