import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { complaintAboutNode } from '../../../src/node/host/node-range.js'

const manifest = JSON.parse(readFileSync(new URL('../../../package.json', import.meta.url), 'utf8')) as {
  readonly engines: { readonly node: string }
}

describe('the versions of Node.js', () => {
  it.each(['20.20.0', '20.21.3', '22.0.0', '24.22.3', '26.12.1'])('has nothing to say about %s', (version) => {
    expect(complaintAboutNode(version)).toBeUndefined()
  })

  it.each(['18.20.8', '20.19.9', '8.30.0'])('says that %s is too old, and what is needed', (version) => {
    expect(complaintAboutNode(version)).toEqual({
      kind: 'old',
      sentence: `Node.js ${version} is too old: peertune needs one from 20.20 to 26`
    })
  })

  it.each(['27.0.0', '100.1.0'])('says that nobody has tried %s', (version) => {
    expect(complaintAboutNode(version)).toEqual({
      kind: 'new',
      sentence: `Node.js ${version} is newer than what peertune is tested on, which is 20.20 to 26`
    })
  })

  it('are those of package.json', () => {
    const [, oldest, beyond] = /^>=(\d+\.\d+) <(\d+)$/.exec(manifest.engines.node) ?? []
    expect(complaintAboutNode(`${oldest}.0`)).toBeUndefined()
    expect(complaintAboutNode(`${beyond}.0.0`)?.kind).toBe('new')
    const [major, minor] = oldest!.split('.').map(Number)
    expect(complaintAboutNode(`${major}.${minor! - 1}.99`)?.kind).toBe('old')
    expect(complaintAboutNode(`${Number(beyond) - 1}.99.0`)).toBeUndefined()
  })
})
