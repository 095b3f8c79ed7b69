/** Codes of errno(3) in words that go behind "got" and into brackets. */
const WORDS: Readonly<Record<string, string>> = {
  ENOENT: 'no such file or directory',
  EACCES: 'permission denied',
  EPERM: 'operation not permitted',
  EISDIR: 'a directory',
  EEXIST: 'something of that name',
  ENOTDIR: 'a path through something that is no directory',
  EROFS: 'a read-only file system',
  ENOSPC: 'no space left on the device',
  EDQUOT: "this user's share of the disk is used up",
  EIO: 'the device does not answer as it should',
  EMFILE: 'too many open files'
}

/** The system's own code of an error (ENOENT, EADDRINUSE, ...); empty for an error that is none of the system's. */
export const systemCode = (error: unknown): string =>
  error instanceof Error && 'code' in error && /^E[A-Z0-9]+$/.test(String(error.code)) ? String(error.code) : ''

/** What the system said, in words. */
export const reasonOf = (error: unknown): string =>
  WORDS[systemCode(error)] ?? (error instanceof Error ? error.message : String(error))

export const isDiskFull = (error: unknown): boolean => ['ENOSPC', 'EDQUOT'].includes(systemCode(error))
