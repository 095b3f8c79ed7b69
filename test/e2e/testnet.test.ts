import { execFile } from 'node:child_process'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import type { TestnetReport } from '../../scripts/testnet/report.js'

const MAIN = fileURLToPath(new URL('../../dist/scripts/testnet/main.js', import.meta.url))

interface Ended {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

const testnet = (...args: string[]): Promise<Ended> =>
  new Promise((resolve) => {
    execFile(process.execPath, [MAIN, ...args], (error, stdout, stderr) =>
      resolve({ code: error === null ? 0 : Number(error.code), stdout, stderr })
    )
  })

describe('testnet', () => {
  it('lets three processes learn together what none can alone, and reports it', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'peertune-testnet-test-'))
    try {
      const file = join(folder, 'report.json')
      const { code, stdout, stderr } = await testnet('--peers', '3', '--steps', '60', '--no-central', '--report', file)
      expect(stderr).toBe('')
      expect(code).toBe(0)
      expect(stdout).toContain('merged adapter')
      const report = JSON.parse(await readFile(file, 'utf8')) as TestnetReport
      expect(report).toMatchObject({ task: 'glyph-letters', metric: 'accuracy', central: null })
      expect(report.peers).toHaveLength(3)
      expect(new Set(report.peers.map((peer) => peer.peerId)).size).toBe(3)
      for (const peer of report.peers) {
        expect(peer.steps).toBe(60)
        expect(peer.exchanges).toBeGreaterThanOrEqual(12)
        expect(peer.bytesSent).toBeGreaterThan(10_000)
        expect(peer.mixed).toBeGreaterThan(peer.localOnly ?? 1)
      }
      // int8 sends a quarter of float32; announcements, discovery and declined calls come on top.
      expect(report.bytesRatio).toBeGreaterThan(0.25)
      expect(report.bytesRatio).toBeLessThan(0.6)
      expect(report.merged).toBeGreaterThan(report.start)
    } finally {
      await rm(folder, { recursive: true, force: true })
    }
  })

  it('names a wrong flag and ends with 2', async () => {
    const { code, stderr } = await testnet('--peers', 'many')
    expect(code).toBe(2)
    expect(stderr).toMatch(/--peers needs a positive integer, got many/)
    expect((await testnet('--split', 'hair')).code).toBe(2)
    expect((await testnet('--modle', 'x')).stderr).toMatch(/--modle/)
  })
})
