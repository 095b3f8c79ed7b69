import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll } from 'vitest'

/** A folder of its own for one test file, gone afterwards. */
export async function temporaryFolder() {
  const root = await mkdtemp(join(tmpdir(), 'peertune-test-'))
  afterAll(() => rm(root, { recursive: true, force: true }))
  return {
    root,
    at: (name: string) => join(root, name),
    async write(name: string, content: string | Uint8Array): Promise<string> {
      await writeFile(join(root, name), content)
      return join(root, name)
    }
  }
}
