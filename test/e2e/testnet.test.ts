import { execFile } from 'node:child_process'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
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

  it('comes through a kill, a latecomer and a split, and accounts for every refusal', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'peertune-testnet-test-'))
    try {
      const file = join(folder, 'report.json')
      const scenario = join(folder, 'churn.yaml')
      await writeFile(
        scenario,
        'late: { peers: [2], at: 0.1 }\nkill: { peers: [1], at: 0.3, downSeconds: 0.5 }\nsplit: { from: 0.5, to: 0.84 }\n'
      )
      const flags = ['--peers', '3', '--steps', '45', '--no-central', '--no-local-only', '--no-undisturbed']
      const { stderr } = await testnet(...flags, '--scenario', scenario, '--report', file)
      // How long anybody waited is a matter of the machine.
      expect(stderr).toMatch(/^(a peer waited .*\n)*$/)
      const report = JSON.parse(await readFile(file, 'utf8')) as TestnetReport
      const what = report.timeline.map((entry) => entry.what).join('\n')
      for (const one of [/peer 2 started/, /peer 1 killed with SIGKILL/, /peer 1 started/, /split/, /may meet again/])
        expect(what).toMatch(one)
      expect(report.refusals.filter(({ reason }) => reason === undefined)).toEqual([])
      // Who met whom before the end is a matter of the machine; that everybody came to the end is not.
      expect(report.peers.map(({ steps }) => steps)).toEqual([45, 45, 45])
      expect(report.merged).toBeGreaterThan(report.start)
    } finally {
      await rm(folder, { recursive: true, force: true })
    }
  }, 240_000)

  it('names a scenario that cannot be, with its line', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'peertune-testnet-test-'))
    try {
      const scenario = join(folder, 'churn.yaml')
      await writeFile(scenario, 'kill: { peers: [9], at: 0.3 }\n')
      expect((await testnet('--peers', '4', '--scenario', scenario)).stderr).toMatch(/churn\.yaml.*peers 0 to 3, got 9/)
      await writeFile(scenario, 'kill: { peers: [1], at: 3 }\n')
      const { code, stderr } = await testnet('--peers', '4', '--scenario', scenario)
      expect(code).toBe(2)
      expect(stderr).toMatch(/churn\.yaml:1/)
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
