import { existsSync, readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { allWell, reportText } from '../../scripts/long-run/report.js'
import { runPhases } from '../../scripts/long-run/run-phases.js'
import { judgeSoak, type Sample } from '../../scripts/long-run/soak-verdict.js'
import type { LongReport, Step } from '../../scripts/long-run/step.js'
import { outcomeOf } from '../../scripts/long-run/suite.js'

const step = (name: string, run: Step['run']): Step => ({ name, what: `does ${name}`, command: `run ${name}`, run })
const well = { facts: { counted: 7 }, complaints: [] }

describe('the long run', () => {
  it('runs as many steps at once as a phase says, phase after phase, and reports them in order', async () => {
    const [started, finish]: [string[], Map<string, () => void>] = [[], new Map()]
    const slow = (name: string) =>
      step(name, async () => {
        started.push(name)
        await new Promise<void>((resolve) => finish.set(name, resolve))
        return well
      })
    const phases = [
      { atOnce: 2, steps: ['a', 'b', 'c'].map(slow) },
      { atOnce: 1, steps: [slow('d')] }
    ]
    const running = runPhases(
      phases,
      () => 0,
      () => undefined
    )
    const settled = () => new Promise((resolve) => setImmediate(resolve))
    expect(started).toEqual(['a', 'b'])
    finish.get('b')!()
    await settled()
    expect(started).toEqual(['a', 'b', 'c'])
    finish.get('c')!()
    await settled()
    expect(started).not.toContain('d')
    finish.get('a')!()
    await settled()
    finish.get('d')!()
    expect((await running).map(({ name }) => name)).toEqual(['a', 'b', 'c', 'd'])
  })

  it('goes on after a step that throws, and does not hold', async () => {
    const said: string[] = []
    const broken = step('broken', () => Promise.reject(new Error('no such model')))
    const steps = await runPhases(
      [{ atOnce: 1, steps: [broken, step('next', async () => well)] }],
      () => 0,
      (line) => said.push(line)
    )
    expect(steps.map(({ complaints }) => complaints)).toEqual([['Error: no such model'], []])
    expect(allWell({ steps })).toBe(false)
    expect(said).toEqual(['BROKEN broken (0 s)', '  Error: no such model', 'held   next (0 s)'])
  })

  it('is a page that says first whether all held', () => {
    const report: LongReport = {
      day: '2026-12-01',
      machine: { node: '20.20.2', platform: 'linux x64', processor: 'X', cores: 2, memoryGb: 24, loadBefore: 0.5 },
      seconds: 1_800,
      steps: [
        { name: 'one', what: 'counts', command: 'c', seconds: 61, facts: { n: 12_345, drift: 2.5e-7 }, complaints: [] },
        { name: 'two', what: 'breaks', command: 'd', seconds: 1, facts: {}, complaints: ['seed 3: lost'] }
      ]
    }
    const text = reportText(report)
    expect(text).toContain(
      'on 2026-12-01: NOT everything held. 30 minutes on X, 2 cores, 24 GB, linux x64, Node.js 20.20.2'
    )
    expect(text).toContain('## one: held\n\nCounts. 61 s, `c`.')
    expect(text).toContain('| n | 12,345 |\n| drift | 2.5e-7 |')
    expect(text).toContain('## two: BROKEN')
    expect(text).toContain('```\nseed 3: lost\n```')
  })

  it('names tests that failed, and files that could not be read', () => {
    const test = (status: string, fullName: string) => ({ status, fullName })
    const outcome = outcomeOf({
      numPassedTests: 1,
      numFailedTests: 1,
      numPendingTests: 2,
      testResults: [
        { name: 'a.test.ts', status: 'failed', assertionResults: [test('passed', 'x'), test('failed', 'y')] },
        { name: 'b.test.ts', status: 'failed', assertionResults: [] }
      ]
    })
    expect(outcome.facts).toEqual({ files: 2, passed: 1, failed: 1, skipped: 2 })
    expect(outcome.complaints).toEqual(['a.test.ts: y', 'b.test.ts: the file itself'])
  })
})

describe('a soak', () => {
  /** Samples every 2 s, with what differs from a healthy node. */
  const node = (change: (seconds: number) => Partial<Sample>): Sample[] =>
    Array.from({ length: 90 }, (_, i) => ({
      seconds: 2 * i,
      // A cache that fills in the first minute.
      nodeMb: 150 + Math.min(50, i),
      trainerMb: 130,
      exchanges: 3 * i,
      restarts: 0,
      ...change(2 * i)
    }))
  const complaintsOf = (change: (seconds: number) => Partial<Sample>) =>
    judgeSoak([node(() => ({})), node(change)]).complaints

  it('passes nodes that settle', () => {
    expect(complaintsOf(() => ({}))).toEqual([])
  })

  it('finds memory that goes on growing, a pace that falls, a trainer that dies, a node that says nothing', () => {
    expect(complaintsOf((seconds) => ({ nodeMb: 150 + seconds }))).toEqual(['peer 1: the node grew from 240 to 300 MB'])
    expect(complaintsOf((seconds) => ({ trainerMb: 100 + seconds }))[0]).toMatch(/^peer 1: the trainer grew from/)
    expect(complaintsOf((seconds) => ({ exchanges: Math.min(130, seconds) }))[0]).toMatch(
      /exchanges a second at the end/
    )
    expect(complaintsOf(() => ({ restarts: 2 }))).toEqual(['peer 1: its trainer was started again 2 times'])
    expect(judgeSoak([[]]).complaints).toEqual(['peer 0: only 0 answers'])
  })
})

describe('docs/results', () => {
  const file = (name: string) => new URL(`../../docs/results/${name}`, import.meta.url)

  it.runIf(existsSync(file('long-run.json')))('has the page that its JSON makes', () => {
    const report = JSON.parse(readFileSync(file('long-run.json'), 'utf8')) as LongReport
    expect(readFileSync(file('long-run.md'), 'utf8')).toBe(reportText(report))
  })
})
