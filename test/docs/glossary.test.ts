import { readdirSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import { declaredIn, filesBelow, namesIn, readText, rowsOf, wordsOf } from './names.js'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))
const files = new Map(['src', 'scripts', 'bench'].flatMap((folder) => [...filesBelow(ROOT, folder)]))
const names = new Map([...files].map(([path, file]) => [path, namesIn(file)]))
const declared = [...files].flatMap(([path, file]) =>
  declaredIn(file).map((name) => ({ path, name, words: wordsOf(name) }))
)
const glossary = readText(ROOT, 'docs/glossary.md')
const [terms = '', bans = ''] = glossary.split('## Words we do not use')

const quoted = (cell: string): readonly string[] => [...cell.matchAll(/`([^`]+)`/g)].map((one) => one[1]!)
const entries = rowsOf(terms).filter(([term]) => term !== 'term')
const banned = rowsOf(bans)
  .filter(([word]) => word !== 'not')
  .map(([words = '', instead = '', places = '']) => ({
    words: words.split(', '),
    instead,
    places: places.split(', ')
  }))

describe('docs/glossary.md', () => {
  it('has terms of one meaning each, with a sentence and a name in the code', () => {
    expect(entries.length).toBeGreaterThan(80)
    for (const cells of entries) expect(cells, cells[0]).toHaveLength(5)
    for (const [term = '', meaning = '', inCode = ''] of entries) {
      expect(meaning, term).toMatch(/^[A-Z].*\.$/)
      expect(quoted(inCode).length, term).toBeGreaterThan(0)
    }
    expect(new Set(entries.map(([term]) => term)).size).toBe(entries.length)
  })

  it('names what is in the code, in the file where it says', () => {
    for (const [term, , inCode = '', where = ''] of entries) {
      const paths = quoted(where)
      for (const path of paths) expect(files.has(path), `${term}: ${path}`).toBe(true)
      const found = paths.map((path) => names.get(path)!)
      for (const name of quoted(inCode))
        expect(
          found.some((set) => set.has(name)),
          `${term}: ${name}`
        ).toBe(true)
    }
  })

  it('quotes nothing in its sentences that is not in the code', () => {
    const all = new Set([...names.values()].flatMap((set) => [...set]))
    const sentences = [...entries.map(([, meaning = '']) => meaning), bans.split('| not |')[0]!]
    for (const name of sentences.flatMap(quoted))
      for (const part of name.split('.')) expect(all.has(part), name).toBe(true)
  })

  it.each(banned)('finds none of $words, for $instead', ({ words, places }) => {
    expect(
      places.every((place) => place === 'documents' || [...files.keys()].some((path) => path.startsWith(`${place}/`)))
    ).toBe(true)
    const isLookedAt = (path: string): boolean => places.some((place) => path.startsWith(`${place}/`))
    const uses = declared.filter((one) => isLookedAt(one.path) && one.words.some((word) => words.includes(word)))
    expect(uses).toEqual([])
    if (!places.includes('documents')) return
    const documents = readdirSync(`${ROOT}/docs`).filter((name) => name.endsWith('.md') && name !== 'glossary.md')
    const texts = [...documents.map((name) => `docs/${name}`), 'README.md', 'ARCHITECTURE.md', 'CHANGELOG.md']
    const pattern = new RegExp(`\\b(${words.join('|')})\\b`, 'i')
    expect(texts.filter((path) => pattern.test(readText(ROOT, path)))).toEqual([])
  })
})
