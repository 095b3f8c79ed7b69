import { readFile } from 'node:fs/promises'
import { describe, expect, it } from 'vitest'
import { resolveYaml } from '../../src/node/config/config.js'
import { parseYaml } from '../../src/node/host/yaml-file.js'

const guide = await readFile(new URL('../../docs/data.md', import.meta.url), 'utf8')
const snippets = [...guide.matchAll(/```yaml\n(.*?)```/gs)].map(([, text = '']) => text)

describe('the guide to data', () => {
  it.each(snippets)('shows a configuration that is one: %s', (snippet) => {
    const yaml = parseYaml('docs/data.md', `federation: f.yaml\nmodel: m.onnx\n${snippet}`)
    const { config } = resolveYaml(yaml)
    // Whatever the snippet sets is understood, and not lost on the way.
    expect(config.data.kind).toBe((yaml.value as { data: { kind: string } }).data.kind)
  })

  it('has one for every kind of source and every split', () => {
    const all = snippets.join('\n')
    for (const kind of ['glyphs', 'text', 'jsonl', 'csv', 'parquet', 'images', 'tensors', 'idx', 'union'])
      expect(all).toMatch(new RegExp(`kind: ${kind}\\b`))
    for (const by of ['iid', 'dirichlet', 'class', 'quantity', 'column']) expect(guide).toContain(`{ by: ${by}, `)
  })
})
