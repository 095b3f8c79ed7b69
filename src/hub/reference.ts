/** A model of the Hugging Face hub as people write it: `org/name[@revision][:file]`. */
export interface HubReference {
  /** `org/name` */
  readonly repo: string
  /** Branch, tag or commit; `main` where none is written. */
  readonly revision: string
  /** Path inside the repository. */
  readonly file?: string
}

const NAME = '[A-Za-z0-9][A-Za-z0-9._-]{0,95}'
const REFERENCE = new RegExp(`^(${NAME}/${NAME})(?:@([^@:\\s]{1,255}))?(?::([^:\\s][^:]{0,1023}))?$`)
const COMMIT = /^[0-9a-f]{40}$/

/** Undefined for what is no such reference: another path, an .onnx file, a revision or file that would leave its folder. */
export function parseHubReference(text: string): HubReference | undefined {
  const [, repo, revision = 'main', file] = REFERENCE.exec(text) ?? []
  if (repo === undefined || repo.endsWith('.onnx') || repo.includes('..') || repo.includes('--')) return undefined
  if (!isInside(revision) || (file !== undefined && !isInside(file))) return undefined
  return { repo, revision, ...(file === undefined ? {} : { file }) }
}

/** As it would be written. */
export const referenceText = ({ repo, revision, file }: HubReference): string =>
  `${repo}@${revision}${file === undefined ? '' : `:${file}`}`

/** A commit says all by itself; branches and tags move. */
export const isCommit = (revision: string): boolean => COMMIT.test(revision)

/** A path of a repository stays in its folder whatever system it is put on. */
export const isInside = (path: string): boolean =>
  !/[\\\0]/.test(path) && path.split('/').every((part) => part !== '' && part !== '.' && part !== '..')

/** What a path inside the cache says of where its file came from. */
export interface HubOrigin {
  readonly repo: string
  /** Commit, 40 hexadecimal digits. */
  readonly sha: string
  readonly file: string
}

const CACHED = new RegExp(`[/\\\\]models--(${NAME})--(${NAME})[/\\\\]snapshots[/\\\\]([0-9a-f]{40})[/\\\\](.+)$`)

/** Undefined for a file that is in no cache of the hub. */
export function hubOrigin(path: string): HubOrigin | undefined {
  const [, organisation, name, sha, file] = CACHED.exec(path) ?? []
  if (organisation === undefined || name === undefined || sha === undefined || file === undefined) return undefined
  return { repo: `${organisation}/${name}`, sha, file: file.replaceAll('\\', '/') }
}
