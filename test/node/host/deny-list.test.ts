import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { Clock } from '../../../src/base/clock.js'
import type { Logger } from '../../../src/base/log.js'
import { silentLogger } from '../../../src/base/log.js'
import { parseDenyList, readDenyList, watchDenyList } from '../../../src/node/host/deny-list.js'

const A = `12D3KooW${'a'.repeat(44)}`
const B = `12D3KooW${'b'.repeat(44)}`

let folder: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'peertune-deny-'))
})
afterEach(() => rmSync(folder, { recursive: true, force: true }))

describe('a deny list', () => {
  it('is one peer id a line, with comments', () => {
    expect([...parseDenyList('f', `# bad\n\n${A}  # sends garbage\r\n${B}\n${A}`)]).toEqual([A, B])
    expect(parseDenyList('f', '')).toEqual(new Set())
  })

  it('names the line that is no peer id', async () => {
    const file = join(folder, 'deny')
    writeFileSync(file, `${A}\nswordfish\n`)
    await expect(readDenyList(file)).rejects.toMatchObject({ code: 'config/bad-deny-list', facts: { line: 2 } })
    await expect(readDenyList(join(folder, 'none'))).rejects.toMatchObject({ code: 'config/unreadable-file' })
  })

  it('is read again, and a bad one changes nothing', async () => {
    const file = join(folder, 'deny')
    writeFileSync(file, A)
    const stop = new AbortController()
    const lists: string[][] = []
    const warnings: unknown[] = []
    // Each look at the file is followed by one change of it.
    const changes = [B, B, 'swordfish', 'swordfish', `${A}\n${B}`]
    const clock: Pick<Clock, 'sleep'> = {
      sleep: async () => {
        const next = changes.shift()
        if (next === undefined) stop.abort()
        else writeFileSync(file, next)
      }
    }
    const log: Logger = { ...silentLogger, warn: (facts: unknown) => void warnings.push(facts) }
    const onChange = (peers: ReadonlySet<string>) => void lists.push([...peers])
    await watchDenyList({ file, onChange, clock: clock as Clock, log }, stop.signal)
    expect(lists).toEqual([[A], [B], [A, B]])
    expect(warnings).toHaveLength(1)
  })
})
