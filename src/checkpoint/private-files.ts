import { type FileHandle, mkdir, open, readdir } from 'node:fs/promises'

/** Private data shapes what is written here: nobody else on the machine reads it. */
export const FILE_MODE = 0o600
const DIRECTORY_MODE = 0o700

export async function makeDirectory(directory: string): Promise<void> {
  await mkdir(directory, { recursive: true, mode: DIRECTORY_MODE })
}

export const isMissing = (error: unknown): boolean => (error as NodeJS.ErrnoException).code === 'ENOENT'

/** What forces a directory to the disk; tests let the disk fail here. */
export interface DirectoryFiles {
  open(path: string, flags: string): Promise<Pick<FileHandle, 'sync' | 'close'>>
}

/** Windows has no handle on a directory to force; its renames and file creations are journaled. */
export async function syncDirectory(directory: string, files: DirectoryFiles = { open }): Promise<void> {
  if (process.platform === 'win32') return
  const handle = await files.open(directory, 'r')
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}

/** Files of one kind in a directory that also holds others, in the order of their numbers. */
export interface NumberedFiles {
  nameOf(number: number): string
  /** Ascending; none where the directory does not exist. */
  numbersIn(directory: string): Promise<number[]>
}

/** Digits of a number in a name. */
const DIGITS = 12

/** Files `KIND-000000000001.log` and so on. */
export function numberedFiles(kind: string): NumberedFiles {
  const pattern = new RegExp(`^${kind}-(\\d{${DIGITS}})\\.log$`)
  return {
    nameOf: (number) => `${kind}-${String(number).padStart(DIGITS, '0')}.log`,
    async numbersIn(directory) {
      try {
        const names = await readdir(directory)
        return names
          .flatMap((name) => pattern.exec(name)?.[1] ?? [])
          .map(Number)
          .toSorted((a, b) => a - b)
      } catch (error) {
        if (isMissing(error)) return []
        throw error
      }
    }
  }
}
