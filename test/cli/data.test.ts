import { createHash } from 'node:crypto'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { data } from '../../src/cli/commands/data.js'
import { createOutput } from '../../src/cli/output.js'
import { temporaryFolder } from '../data/fixtures.js'

const TEST = join(import.meta.dirname, '..')
const MODEL = join(TEST, 'golden/conformance/bert-torchscript/model.onnx')

async function configured(split: string) {
  const folder = await temporaryFolder()
  const sha256 = createHash('sha256')
    .update(await readFile(MODEL))
    .digest('hex')
  const rows = Array.from({ length: 100 }, (_, i) => JSON.stringify({ text: `the cat ${i}`, label: i % 3 }))
  await writeFile(join(folder, 'rows.jsonl'), rows.join('\n'))
  await writeFile(
    join(folder, 'federation.yaml'),
    `peertune: 1
name: demo
model: { sha256: ${sha256} }
task: { kind: sequence-classification, labels: [animal, place, other] }
peft: { method: lora, rank: 2, alpha: 4, targets: [query], head: [classifier], seed: demo }
`
  )
  await writeFile(
    join(folder, 'a.yaml'),
    `federation: federation.yaml
model: ${MODEL}
dataDir: d
data:
  kind: jsonl
  path: rows.jsonl
  tokenizer: ${join(TEST, 'data/golden/wordpiece')}
  sequenceLength: 32
  split: ${split}
`
  )
  return join(folder, 'a.yaml')
}

describe('peertune data', () => {
  it('prints what a peer holds, and what each peer of the split does', async () => {
    const config = await configured('{ by: class, classesPerPeer: 2, peers: 3, peer: 1 }')
    let printed = ''
    await data(
      { config },
      {},
      createOutput((text) => (printed += text))
    )
    const lines = printed.split('\n')
    expect(lines[0]).toMatch(/^jsonl: \d+ training examples, \d+ held out$/)
    expect(lines).toContain('split by class (2 a peer) among 3 peers; this is peer 1')
    expect(lines.filter((line) => /^ *(\* )?[012] /.test(line)).length).toBe(6)

    let json = ''
    await data(
      { config, json: true },
      {},
      createOutput((text) => (json += text))
    )
    const summary = JSON.parse(json) as { training: number; heldOut: number; split: { peers: number[][] } }
    const total = summary.split.peers.reduce((sum, row) => sum + row.at(-1)!, 0)
    expect(total + summary.heldOut).toBe(100)
    expect(summary.training).toBe(summary.split.peers[1]!.at(-1))
  })

  it('says what is wrong with a split before anything is trained', async () => {
    const config = await configured('{ by: iid, peers: 3, peer: 3 }')
    await expect(
      data(
        { config },
        {},
        createOutput(() => true)
      )
    ).rejects.toMatchObject({ code: 'data/bad-split' })
  })
})
