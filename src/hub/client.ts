import { downloadFile, HubApiError, listFiles, modelInfo } from '@huggingface/hub'
import { PeertuneError } from '../base/errors.js'
import { HUB_LIMITS } from './limits.js'
import { isInside } from './reference.js'
import type { FileHash } from './verify.js'

export interface RepoFile {
  readonly path: string
  readonly hash: FileHash
}

/** A hub, or a mirror of it. Every method throws `hub/unreachable`, `hub/forbidden` and `hub/not-found`. */
export interface HubClient {
  /** Commit that a branch or tag stands for now. */
  commitOf(repo: string, revision: string): Promise<string>
  /** Every file of a commit, with its size and its hash. */
  files(repo: string, sha: string): Promise<readonly RepoFile[]>
  /** Bytes of a file from `start` on. */
  read(repo: string, sha: string, file: RepoFile, start: number): Promise<AsyncIterable<Uint8Array>>
}

export interface HubClientOptions {
  /** Of the hub or a mirror, without a slash at its end. */
  readonly hubUrl: string
  readonly token?: string | undefined
}

const HASH = /^([0-9a-f]{40}|[0-9a-f]{64})$/

export function createHubClient({ hubUrl, token }: HubClientOptions): HubClient {
  const common = { hubUrl, fetch: guardedFetch(hubUrl, token) }
  const ask = <T>(what: string, question: Promise<T>): Promise<T> =>
    question.catch((cause: unknown) => {
      throw hubError(what, hubUrl, cause)
    })
  return {
    async commitOf(repo, revision) {
      const options = { ...common, name: repo, revision, additionalFields: ['sha'] as const }
      const { sha } = await ask(`${repo}@${revision}`, modelInfo({ ...options, additionalFields: ['sha'] }))
      if (typeof sha === 'string' && /^[0-9a-f]{40}$/.test(sha)) return sha
      throw badAnswer(hubUrl, `no commit for ${repo}@${revision}`)
    },
    files: (repo, sha) =>
      ask(`${repo}@${sha}`, collect(listFiles({ ...common, repo, revision: sha, recursive: true }))),
    async read(repo, sha, { path, hash }, start) {
      // Without the protocol of chunks (Xet): plain files with ranges are what every mirror has.
      const download = downloadFile({ ...common, repo, revision: sha, path, xet: false })
      const blob = await ask(`${repo}: ${path}`, download)
      if (blob === null) throw notFound(`${repo}: ${path}`, hubUrl)
      if (blob.size !== hash.size) throw badAnswer(hubUrl, `${path} with ${blob.size} bytes, expected ${hash.size}`)
      const part = start === 0 ? blob : blob.slice(start)
      return part.stream() as unknown as AsyncIterable<Uint8Array>
    }
  }

  async function collect(entries: ReturnType<typeof listFiles>): Promise<RepoFile[]> {
    const found: RepoFile[] = []
    for await (const { type, path, size, oid, lfs } of entries) {
      if (type !== 'file') continue
      const hash = { hex: lfs?.oid ?? oid ?? '', size: lfs?.size ?? size }
      if (!HASH.test(hash.hex) || !Number.isSafeInteger(hash.size) || hash.size < 0 || !isInside(path))
        throw badAnswer(hubUrl, `a file ${JSON.stringify(path)} of ${hash.size} bytes with hash "${hash.hex}"`)
      found.push({ path, hash })
      if (found.length > HUB_LIMITS.files) throw badAnswer(hubUrl, `more than ${HUB_LIMITS.files} files`)
    }
    return found
  }
}

/** The token goes to the hub alone, wherever its answers point; what is no file must be answered in time. */
function guardedFetch(hubUrl: string, token: string | undefined): typeof fetch {
  const { origin } = new URL(hubUrl)
  return (input, init = {}) => {
    const url = new URL(input instanceof Request ? input.url : input)
    const headers = new Headers(init.headers)
    // Here and not by the library, which takes tokens of huggingface.co alone, and follows links with them.
    if (url.origin === origin && token !== undefined) headers.set('Authorization', `Bearer ${token}`)
    const isAnswer = url.pathname.startsWith('/api/')
    return fetch(url, { ...init, headers, ...(isAnswer && { signal: AbortSignal.timeout(HUB_LIMITS.answerMs) }) })
  }
}

const UNAUTHORISED = 401
const FORBIDDEN = 403
const NOT_FOUND = 404

/** What went wrong between us and the hub, with what to do about it. */
function hubError(what: string, hubUrl: string, cause: unknown): PeertuneError {
  if (cause instanceof PeertuneError) return cause
  const status = cause instanceof HubApiError ? cause.statusCode : undefined
  if (status === NOT_FOUND) return notFound(what, hubUrl, cause)
  if (status === UNAUTHORISED || status === FORBIDDEN)
    return new PeertuneError('hub/forbidden', `${hubUrl} does not give out ${what} (status ${status})`, {
      facts: { what, hubUrl, status },
      hint: 'check the name; for a private or gated model set HF_TOKEN to a token that may read it',
      cause
    })
  return new PeertuneError('hub/unreachable', `${hubUrl} cannot be asked for ${what} (${reason(cause, status)})`, {
    facts: { what, hubUrl, ...(status !== undefined && { status }) },
    hint: 'try again later, set HF_ENDPOINT to a mirror, or give a folder of this machine',
    cause
  })
}

const notFound = (what: string, hubUrl: string, cause?: unknown): PeertuneError =>
  new PeertuneError('hub/not-found', `${hubUrl} has no ${what}`, {
    facts: { what, hubUrl },
    hint: 'check organisation, name, revision and file: org/name[@revision][:file]',
    cause
  })

const badAnswer = (hubUrl: string, got: string): PeertuneError =>
  new PeertuneError('hub/bad-answer', `${hubUrl} answers with ${got}`, {
    facts: { hubUrl },
    hint: 'if HF_ENDPOINT names a mirror, it may not be a whole one'
  })

function reason(cause: unknown, status: number | undefined): string {
  if (status !== undefined) return `status ${status}`
  if (!(cause instanceof Error)) return String(cause)
  const { cause: deeper } = cause
  return deeper instanceof Error && deeper.message !== '' ? deeper.message : cause.message
}
