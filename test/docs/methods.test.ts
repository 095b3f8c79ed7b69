import { readFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import { specsOf } from '../../src/base/peft-spec.js'
import { methodTable } from '../../src/node/model/method-table.js'
import { readManifest } from '../../src/node/config/manifest.js'
import { temporaryFolder } from '../node/folder.js'

const guide = await readFile(fileURLToPath(new URL('../../docs/methods.md', import.meta.url)), 'utf8')
const snippets = [...guide.matchAll(/^```yaml\n([\s\S]*?)^```$/gm)].map(([, block = '']) => block)
const folder = await temporaryFolder()
const HEADER = `peertune: 1\nname: guide\nmodel: { sha256: ${'0a'.repeat(32)} }\ntask: { kind: causal-lm }\n`

describe('docs/methods.md', () => {
  it('has snippets that are manifests', async () => {
    const manifests = await Promise.all(
      snippets.map(async (snippet, i) => readManifest(await folder.write(`${i}.yaml`, `${HEADER}${snippet}`)))
    )
    expect(manifests).toHaveLength(3)
    expect(manifests[0]?.peft).toMatchObject({ alternate: { every: 5 } })
    expect(manifests[1] && specsOf(manifests[1].peft)).toMatchObject([{ rank: 8 }, { rank: 4, private: true }])
    expect(manifests[2]).toMatchObject({ peft: { rank: 16 }, peerRanks: 'nested' })
  })

  it('names every method, and says of each how it mixes', async () => {
    for (const { method, mixing, variant } of await methodTable()) {
      const row = guide.split('\n').find((line) => line.startsWith('|') && line.includes(`\`${method}\``))
      expect(row, method).toBeDefined()
      if (variant === undefined) expect(row, method).toContain(`| ${mixing} |`)
    }
  })
})
