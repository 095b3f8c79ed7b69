import { chmod, mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import type { Clock } from '../../../src/base/clock.js'
import { examine } from '../../../src/node/trained/doctor.js'
import { type ProbeResult, probeInChild } from '../../../src/node/model/probe-child.js'
import { temporaryFolder } from '../folder.js'

const folder = await temporaryFolder()

const script = async (name: string, text: string): Promise<string> => {
  const path = join(folder.root, `${name}.mjs`)
  await writeFile(path, text)
  return path
}

describe('a device asked in a child process', () => {
  it('answers', async () => {
    expect(await probeInChild('cpu')).toMatchObject({ kind: 'works', nodeShare: 1 })
  })

  it.each([
    ['hangs', 'setInterval(() => undefined, 1000)', 'timed-out', 'no answer in 0.3 s'],
    ['dies', 'process.kill(process.pid, "SIGKILL")', 'died', 'SIGKILL'],
    ['leaves', 'console.log("{"); process.exit(7)', 'died', 'exit code 7'],
    ['talks', 'console.log("x".repeat(100)); console.log("null")', 'died', 'exit code 0']
  ])('that %s is told from one that refuses', async (name, text, kind, reason) => {
    const entry = await script(name, text)
    const result = await probeInChild('cuda', { entry, timeoutMs: name === 'hangs' ? 300 : 10_000 })
    expect(result).toMatchObject({ kind, reason: expect.stringContaining(reason) })
  })
})

describe('the doctor', () => {
  const works: ProbeResult = { kind: 'works', nodeShare: 0.5, largestDifference: 0 }
  const clock: Clock = { now: () => Date.UTC(1970, 0, 2), sleep: () => Promise.resolve() }

  it('says what each device answered and what auto comes to', async () => {
    const asked: string[] = []
    const probe = (device: string): Promise<ProbeResult> => {
      asked.push(device)
      return Promise.resolve(device === 'cpu' ? works : { kind: 'refused', reason: `no ${device}` })
    }
    const { devices, auto, checks } = await examine({ dataDir: folder.root, clock, probe })
    expect(devices.map(({ device }) => device)).toEqual(['cpu', 'cuda', 'webgpu', 'coreml', 'dml'])
    expect(devices.filter(({ chosen }) => chosen).map(({ device }) => device)).toEqual(['cpu'])
    expect(auto.used).toBe('cpu')
    expect(checks.find(({ name }) => name === 'clock')).toMatchObject({ state: 'warn' })
    expect(checks.filter(({ state }) => state === 'fail')).toEqual([])
    expect(asked).toContain('webgpu')
  })

  it('fails where even the CPU does not compute, and where data cannot be written', async () => {
    const dataDir = join(folder.root, 'file')
    await writeFile(dataDir, 'no folder')
    const probe = (): Promise<ProbeResult> => Promise.resolve({ kind: 'wrong', reason: 'it differs' })
    const { checks } = await examine({ dataDir, clock, probe })
    const failed = checks.filter(({ state }) => state === 'fail').map(({ name }) => name)
    expect(failed).toEqual(['data', 'training'])
  })

  it('leaves no file behind', async () => {
    const dataDir = join(folder.root, 'clean')
    await mkdir(dataDir)
    await chmod(dataDir, 0o700)
    const { checks } = await examine({ dataDir: join(dataDir, 'not', 'yet'), probe: () => Promise.resolve(works) })
    expect(checks.find(({ name }) => name === 'data')).toMatchObject({
      state: 'ok',
      sentence: expect.stringContaining('once it is made')
    })
  })
})
