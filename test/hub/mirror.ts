import { createHash } from 'node:crypto'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'

/** What a file of the mirror does instead of coming as it should. */
export type Fault = 'wrong bytes' | 'always cut' | 'cut once' | 'gone' | 'forbidden' | 'down'

export interface MirrorRepo {
  readonly sha: string
  /** By path; those of `large` are stored apart, as LFS files are, behind a redirect to another server. */
  readonly files: Readonly<Record<string, Uint8Array | string>>
  readonly large?: readonly string[]
}

export interface Mirror {
  readonly url: string
  /** `METHOD path`, in the order of arrival. */
  readonly requests: string[]
  /** Authorization headers that the second server, where large files lie, has seen. */
  readonly leaked: string[]
  /** By path of a file, or `revision` for the question which commit it is. */
  readonly faults: Map<string, Fault>
  /** Bearer token without which nothing is answered. */
  token: string | undefined
  put(repo: string, content: MirrorRepo): void
  close(): Promise<void>
}

/** Entries of one page of a listing: small, so that listings have several. */
const PAGE = 3

interface File {
  readonly bytes: Buffer
  readonly oid: string
  readonly sha256: string | undefined
}

const fileOf = (content: Uint8Array | string, isLarge: boolean): File => {
  const bytes = Buffer.from(content as Uint8Array)
  const oid = createHash('sha1').update(`blob ${bytes.length}\0`).update(bytes).digest('hex')
  return { bytes, oid, sha256: isLarge ? createHash('sha256').update(bytes).digest('hex') : undefined }
}

/** The few endpoints of the Hugging Face hub that a download needs, on loopback (https://huggingface.co/docs/hub/api). */
export async function startMirror(): Promise<Mirror> {
  const repos = new Map<string, { sha: string; files: Map<string, File> }>()
  const requests: string[] = []
  const leaked: string[] = []
  const faults = new Map<string, Fault>()
  const mirror = { token: undefined as string | undefined }

  const storage = createServer((request, response) => {
    if (request.headers.authorization !== undefined) leaked.push(request.headers.authorization)
    const [repo, path] = decodeURIComponent((request.url ?? '').slice(1)).split('|')
    const file = repos.get(repo ?? '')?.files.get(path ?? '')
    if (file === undefined) return void response.writeHead(404).end()
    send(request, response, { file, path: path as string, faults })
  })
  const hub = createServer((request, response) => {
    const url = new URL(request.url ?? '/', 'http://mirror')
    requests.push(`${request.method} ${url.pathname}`)
    if (mirror.token !== undefined && request.headers.authorization !== `Bearer ${mirror.token}`)
      return json(response, 401, { error: 'Invalid username or password.' })
    const api = /^\/api\/models\/([^/]+\/[^/]+)\/(revision|tree)\/([^/]+)$/.exec(url.pathname)
    const resolve = /^\/([^/]+\/[^/]+)\/resolve\/([^/]+)\/(.+)$/.exec(url.pathname)
    const [, name = '', kind, revision = ''] = api ?? [undefined, resolve?.[1], 'resolve', resolve?.[2]]
    const repo = repos.get(name)
    if (faults.get('revision') === 'down' && kind === 'revision') return void request.socket.destroy()
    if (repo === undefined || !['main', repo.sha].includes(decodeURIComponent(revision)))
      return json(response, 404, { error: 'Repository not found' }, { 'X-Error-Code': 'RepoNotFound' })
    if (kind === 'revision') return json(response, 200, { _id: 'x', id: name, sha: repo.sha, private: false })
    if (kind === 'tree') return json(response, 200, ...page(repo.files, url, addressOf(hub)))
    const path = resolve?.[3] ?? ''
    const file = repo.files.get(path)
    if (file === undefined || faults.get(path) === 'gone')
      return json(response, 404, { error: 'Entry not found' }, { 'X-Error-Code': 'EntryNotFound' })
    if (faults.get(path) === 'forbidden') return json(response, 403, { error: 'gated' })
    if (file.sha256 === undefined) return send(request, response, { file, path, faults })
    const Location = `${addressOf(storage)}/${encodeURIComponent(`${name}|${path}`)}`
    response.writeHead(302, { Location, 'X-Linked-ETag': `"${file.sha256}"` }).end()
  })
  await Promise.all([storage, hub].map(listening))
  return {
    url: addressOf(hub),
    requests,
    leaked,
    faults,
    get token() {
      return mirror.token
    },
    set token(value) {
      mirror.token = value
    },
    put(name, { sha, files, large = [] }) {
      const stored = Object.entries(files).map(([path, bytes]) => [path, fileOf(bytes, large.includes(path))] as const)
      repos.set(name, { sha, files: new Map(stored) })
    },
    close: async () => {
      await Promise.all([storage, hub].map(closed))
    }
  }
}

function page(files: ReadonlyMap<string, File>, url: URL, base: string) {
  const start = Number(url.searchParams.get('cursor') ?? 0)
  const entries = Array.from(files, ([path, { bytes, oid, sha256 }]) => ({
    type: 'file',
    path,
    size: bytes.length,
    oid,
    ...(sha256 !== undefined && { lfs: { oid: sha256, size: bytes.length, pointerSize: 134 } })
  }))
  url.searchParams.set('cursor', String(start + PAGE))
  const more = start + PAGE < entries.length
  const headers = more ? { Link: `<${base}${url.pathname}${url.search}>; rel="next"` } : {}
  return [entries.slice(start, start + PAGE), headers] as const
}

interface Sent {
  readonly file: File
  readonly path: string
  readonly faults: Map<string, Fault>
}

/** A file or the range of it that is asked for. A question for the first byte alone is one for the size. */
function send(request: IncomingMessage, response: ServerResponse, { file, path, faults }: Sent): void {
  const [, first = '0', last = ''] = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? '') ?? []
  const isProbe = first === '0' && last === '0'
  const fault = isProbe ? undefined : faults.get(path)
  const { bytes } = file
  const end = last === '' ? bytes.length : Number(last) + 1
  const part = Buffer.from(bytes.subarray(Number(first), end))
  if (fault === 'wrong bytes') part[0] = (part[0] ?? 0) ^ 1
  if (fault === 'cut once') faults.delete(path)
  const status = request.headers.range === undefined ? 200 : 206
  const range = { 'Content-Range': `bytes ${first}-${end - 1}/${bytes.length}` }
  const headers = { 'Content-Length': part.length, ETag: `"${file.sha256 ?? file.oid}"`, ...(status === 206 && range) }
  response.writeHead(status, headers)
  if (fault === 'always cut' || fault === 'cut once')
    return void response.write(fault === 'always cut' ? part.subarray(0, 0) : part.subarray(0, part.length >> 1), () =>
      response.destroy()
    )
  response.end(part)
}

function json(response: ServerResponse, status: number, body: unknown, headers: Record<string, string> = {}): void {
  response.writeHead(status, { 'Content-Type': 'application/json', ...headers }).end(JSON.stringify(body))
}

const listening = (server: Server): Promise<void> =>
  new Promise((resolve) => server.listen(0, '127.0.0.1', () => resolve()))

const closed = (server: Server): Promise<void> =>
  new Promise((resolve) => {
    server.close(() => resolve())
    server.closeAllConnections()
  })

const addressOf = (server: Server): string => `http://127.0.0.1:${(server.address() as AddressInfo).port}`
