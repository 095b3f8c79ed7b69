import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import { entryUrl } from '../../src/base/entry.js'

const built = new URL('../../dist/src/base/entry.js', import.meta.url)

describe('entryUrl', () => {
  it('sends a parent that runs from src to the built file', () => {
    expect(entryUrl('base/entry.js').href).toBe(built.href)
  })

  it('finds the sibling of a parent that runs from dist', async () => {
    const { entryUrl: fromDist } = (await import(built.href)) as { entryUrl: typeof entryUrl }
    expect(fromDist('base/entry.js').href).toBe(built.href)
  })

  it('says how to make a file that is not there', () => {
    expect(() => entryUrl('base/nowhere.js')).toThrow(
      expect.objectContaining({
        code: 'base/entry-not-built',
        message: expect.stringContaining(fileURLToPath(new URL('nowhere.js', built))),
        hint: 'npm run build'
      })
    )
  })
})
