import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { describeSmoke, trySmoke } from '../../scripts/smoke/try-smoke.js'
import { readWarnings } from '../../scripts/smoke/warnings.js'

let folder: string
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'peertune smoke '))
})
afterAll(() => rm(folder, { recursive: true, force: true }))

async function scriptOf(text: string): Promise<string> {
  const file = join(folder, 'script.mjs')
  await writeFile(file, text)
  return file
}

/** A worker of a child, as the trainer's and the tokenizer's threads are. */
const IN_A_THREAD_OF_A_CHILD = (code: string) => `
import { spawnSync } from 'node:child_process'
const thread = ${JSON.stringify(`new (require('node:worker_threads').Worker)(${JSON.stringify(code)}, { eval: true })`)}
spawnSync(process.execPath, ['-e', thread])
`

describe('the smoke test', () => {
  it('fails for what is deprecated, in a thread of a child, too', async () => {
    const script = await scriptOf(IN_A_THREAD_OF_A_CHILD('new Buffer(1)'))
    const { complaints, warnings } = await trySmoke(process.execPath, script)
    expect(complaints).toEqual([expect.stringMatching(/^\[DEP0005\] DeprecationWarning: Buffer\(\) is deprecated/)])
    expect(complaints[0]).toMatch(/\n +at /)
    expect(warnings).toEqual([])
  })

  it('shows other warnings, and does not fail for them', async () => {
    const script = await scriptOf(`
      import { EventEmitter } from 'node:events'
      const emitter = new EventEmitter()
      for (let i = 0; i < 11; i++) emitter.on('a', () => undefined)
    `)
    const result = await trySmoke(process.execPath, script)
    expect(result.complaints).toEqual([])
    expect(result.warnings).toMatchObject([{ name: 'MaxListenersExceededWarning' }])
    expect(describeSmoke(result)).toMatch(
      /^ok.*warning: MaxListenersExceededWarning: Possible EventEmitter memory leak/s
    )
  })

  it('fails where its script does, and shows what that said', async () => {
    const result = await trySmoke(
      process.execPath,
      await scriptOf("console.log('nothing was learned'); process.exit(3)")
    )
    expect(result.complaints).toEqual(['it ended with exit code 3'])
    expect(describeSmoke(result)).toMatch(/^FAIL.*nothing was learned/s)
  })
})

describe('warnings', () => {
  it('are told apart by their first lines, and said once', () => {
    const text = [
      '(node:1) [DEP0040] DeprecationWarning: The `punycode` module is deprecated.',
      '    at node:punycode:3:9',
      '(node:2) ExperimentalWarning: glob is an experimental feature',
      '(node:3) [DEP0040] DeprecationWarning: The `punycode` module is deprecated.',
      '    at node:punycode:3:9',
      '(node:3) Warning: plain',
      ''
    ].join('\n')
    expect(readWarnings(text)).toEqual([
      {
        name: 'DeprecationWarning',
        text: '[DEP0040] DeprecationWarning: The `punycode` module is deprecated.\n    at node:punycode:3:9'
      },
      { name: 'ExperimentalWarning', text: 'ExperimentalWarning: glob is an experimental feature' },
      { name: 'Warning', text: 'Warning: plain' }
    ])
  })

  it('are none in an empty file', () => {
    expect(readWarnings('')).toEqual([])
  })
})
