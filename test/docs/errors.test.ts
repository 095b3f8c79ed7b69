import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import { readAdvice } from '../../scripts/errors/advice.js'
import { errorTables } from '../../scripts/errors/document.js'
import { renderTables } from '../../scripts/errors/render.js'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))
const ROOMS = readdirSync(join(ROOT, 'src'), { withFileTypes: true }).flatMap((one) =>
  one.isDirectory() ? [one.name] : []
)
/** Words before the slash that are no folder of src; docs/errors.md says what they mean. */
const OTHER_WORDS = ['config', 'announcement', 'broadcast', 'exchange', 'hello', 'state']
/** Sections of a checkpoint, which only look like codes. */
const NO_CODES = ['broadcast/progress', 'broadcast/residual']

const textsBelow = (folder: string, ending: string): readonly { readonly path: string; readonly text: string }[] =>
  readdirSync(join(ROOT, folder), { recursive: true, encoding: 'utf8' })
    .filter((path) => path.endsWith(ending) && !path.endsWith('_pb.ts'))
    .map((path) => ({ path: join(folder, path), text: readFileSync(join(ROOT, folder, path), 'utf8') }))

const sources = textsBelow('src', '.ts')
const withoutComments = (text: string): string => text.replaceAll(/\/\*[\s\S]*?\*\/|(?<![:'"`])\/\/.*$/gm, '')
const words = [...ROOMS, ...OTHER_WORDS].join('|')
const matches = (text: string, pattern: RegExp): readonly string[] => [...text.matchAll(pattern)].map((one) => one[1]!)
const isCode = (code: string): boolean => !NO_CODES.includes(code)

/** By regular expressions alone: every string that looks like a code, and what stands before the gap of a template. */
const code = sources.map(({ text }) => withoutComments(text)).join('\n')
const literal = new Set(matches(code, new RegExp(`['"\`]((?:${words})/[a-z0-9-]+)['"\`]`, 'g')).filter(isCode))
const begun = [...new Set(matches(code, new RegExp(`\`((?:${words})/[a-z0-9-]*)\\$\\{`, 'g')))]

const { errors, peers } = errorTables(ROOT)
const inTables = new Set([...errors, ...peers].map((row) => row.code))
const refusals = peers.flatMap((row) => (row.code.includes('/') ? [] : [row.code]))
const aliases = ['exchange/', 'state/'].flatMap((prefix) => refusals.map((refusal) => prefix + refusal))
const isDocumented = (one: string): boolean => inTables.has(one) || aliases.includes(one)

describe('docs/errors.md', () => {
  it('is what npm run docs:errors makes of the sources', () => {
    expect(readFileSync(join(ROOT, 'docs/errors.md'), 'utf8')).toBe(renderTables({ errors, peers }))
  })

  it('has every code of the sources, by a cruder search', () => {
    expect(literal.size).toBeGreaterThan(200)
    expect([...literal].filter((one) => !isDocumented(one))).toEqual([])
    for (const start of begun)
      expect(
        [...inTables, ...aliases].some((one) => one.startsWith(start)),
        start
      ).toBe(true)
  })

  it('has no code that is gone from the sources', () => {
    const isThere = (one: string): boolean =>
      literal.has(one) || (one.includes('/') ? begun.some((start) => one.startsWith(start)) : code.includes(`'${one}'`))
    expect([...inTables].filter((one) => !isThere(one))).toEqual([])
  })

  it('says for every code what has happened and what to do', () => {
    for (const { code: named, sentences, advice, isMute } of errors) {
      expect(sentences.every((sentence) => sentence.length > 0) && sentences.length > 0, named).toBe(true)
      expect(advice.length > 0 && !isMute, named).toBe(true)
    }
    for (const { code: named, means, advice } of peers) expect([means, advice].includes(''), named).toBe(false)
  })

  it('keeps no advice for what is gone or says itself what to do', () => {
    const needed = errors.filter(({ needsAdvice }) => needsAdvice).map((row) => row.code)
    const { errors: advised, peers: known } = readAdvice(join(ROOT, 'scripts/errors/advice.yaml'))
    expect(Object.keys(advised).filter((one) => !needed.includes(one))).toEqual([])
    expect(Object.keys(known).filter((one) => !peers.some((row) => row.code === one))).toEqual([])
  })

  it('knows codes of one form, and explains the words before their slash', () => {
    const text = readFileSync(join(ROOT, 'docs/errors.md'), 'utf8')
    for (const word of OTHER_WORDS) expect(text).toContain(`\`${word}\``)
    for (const one of inTables) {
      if (refusals.includes(one)) continue
      expect(one).toMatch(/^[a-z0-9]+(-[a-z0-9]+)*\/[a-z0-9-]+$/)
      expect([...ROOMS, ...OTHER_WORDS]).toContain(one.split('/')[0])
    }
  })

  it('has the codes that comments and other documents name', () => {
    const named = [...sources, ...textsBelow('docs', '.md')].flatMap(({ path, text }) =>
      matches(text, new RegExp(`(?<![\\w/])\`((?:${words})/[a-z0-9-]+)\``, 'g')).map((one) => ({ path, one }))
    )
    expect(named.length).toBeGreaterThan(100)
    expect(named.filter(({ one }) => isCode(one) && !isDocumented(one))).toEqual([])
  })
})
