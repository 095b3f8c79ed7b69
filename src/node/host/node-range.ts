/** `engines` in package.json says the same. */
const OLDEST = { major: 20, minor: 20 }
const NEWEST_MAJOR = 26
const RANGE = `${OLDEST.major}.${OLDEST.minor} to ${NEWEST_MAJOR}`

export interface NodeComplaint {
  /** `new`: nobody has tried it, but it may well work. */
  readonly kind: 'old' | 'new'
  readonly sentence: string
}

/** What is to be said about a version of Node.js, such as `22.1.0`, that peertune is not tested on; absent: nothing. */
export function complaintAboutNode(version: string): NodeComplaint | undefined {
  const [major = 0, minor = 0] = version.split('.').map(Number)
  if (major < OLDEST.major || (major === OLDEST.major && minor < OLDEST.minor))
    return { kind: 'old', sentence: `Node.js ${version} is too old: peertune needs one from ${RANGE}` }
  if (major > NEWEST_MAJOR)
    return { kind: 'new', sentence: `Node.js ${version} is newer than what peertune is tested on, which is ${RANGE}` }
  return undefined
}
