import { execFile } from 'node:child_process'
import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { entryUrl } from '../../src/base/entry.js'

/** Opens a session on the model that ships, as every command does that needs the runtime. */
const PROGRAM = `
  const { readFileSync } = await import('node:fs')
  const { createSession } = await import(process.argv[1])
  const session = await createSession(readFileSync('models/glyphs/model.onnx'))
  await session.release()
  console.log(process.env.ORT_DISABLE_TELEMETRY)
`

let home: string
beforeEach(async () => {
  home = await mkdtemp(join(tmpdir(), 'peertune-home-'))
})
afterEach(() => rm(home, { recursive: true, force: true }))

/** Without the variable `CI`, which keeps the runtime quiet, too. */
async function openSession(env: Readonly<Record<string, string>> = {}) {
  const args = ['--input-type=module', '--eval', PROGRAM, entryUrl('onnx/runtime/session.js').href]
  const options = { env: { PATH: process.env.PATH, HOME: home, ...env } }
  const { stdout } = await promisify(execFile)(process.execPath, args, options)
  return { setting: stdout.trim(), left: await readdir(home, { recursive: true }) }
}

it('lets the runtime report nothing to its maker and leave nothing of its own in the home folder', async () => {
  expect(await openSession()).toEqual({ setting: '1', left: [] })
})

it('leaves the decision to whoever has taken it', async () => {
  expect((await openSession({ ORT_DISABLE_TELEMETRY: '0', CI: 'true' })).setting).toBe('0')
})
