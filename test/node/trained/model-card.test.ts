import { mkdir, writeFile } from 'node:fs/promises'
import { describe, expect, it } from 'vitest'
import { type FederationManifest, federationHash } from '../../../src/base/federation.js'
import { createMemoryStore } from '../../../src/checkpoint/memory-store.js'
import type { PeerTable } from '../../../src/consensus/partners/peers.js'
import { licenseOf } from '../../../src/node/model/base-license.js'
import { type CardFacts, modelCard } from '../../../src/node/trained/model-card.js'
import { readPartners, withPartnerBook } from '../../../src/node/peers/partners.js'
import { parseYaml } from '../../../src/node/host/yaml-file.js'
import { stateAt } from '../../checkpoint/states.js'
import { temporaryFolder } from '../folder.js'

const folder = await temporaryFolder()
const manifest: FederationManifest = {
  peertune: 1,
  name: 'letters',
  model: { sha256: 'ab'.repeat(32) },
  task: { kind: 'sequence-classification', labels: ['no', 'yes'] },
  peft: { method: 'dora', rank: 4, alpha: 8, targets: ['query'], head: ['classifier'], seed: 's' },
  mixing: { localSteps: 7, codec: 'int8', gamma: 1, settleExchanges: 3, isolationFactor: 10 }
}
const facts: CardFacts = {
  manifest,
  parameters: 1234,
  state: { step: 70, exchanges: 11, bytesSent: 5000, bytesReceived: 6000 },
  training: { batchSize: 16, learningRate: 0.003, schedule: 'cosine' },
  partners: { peers: 7, samples: 910 },
  origin: { repo: 'org/bert', sha: '12'.repeat(20), file: 'onnx/model.onnx' },
  license: 'apache-2.0',
  samples: 130,
  evaluation: { loss: 0.4321, accuracy: 0.875, count: 40 },
  isPeft: true
}

function frontMatter(card: string): unknown {
  const [, text = ''] = /^---\n([\s\S]*?)\n---\n/.exec(card) ?? []
  return parseYaml('card', text).value
}

describe('a model card', () => {
  it('has the metadata of the Hugging Face hub', () => {
    expect(frontMatter(modelCard(facts))).toEqual({
      library_name: 'peft',
      base_model: 'org/bert',
      base_model_relation: 'adapter',
      license: 'apache-2.0',
      pipeline_tag: 'text-classification',
      tags: ['peertune', 'federated-learning', 'peer-to-peer', 'dora'],
      'model-index': [
        {
          name: 'letters',
          results: [
            {
              task: { type: 'text-classification' },
              dataset: { name: 'held-out examples of this peer', type: 'private' },
              metrics: [
                { type: 'loss', value: 0.4321, name: 'cross entropy, nats' },
                { type: 'accuracy', value: 0.875, name: 'accuracy' }
              ]
            }
          ]
        }
      ]
    })
  })

  it.each([
    `| federation | letters (\`${federationHash(manifest)}\`) |`,
    `| base model | [org/bert](https://huggingface.co/org/bert), commit \`${'12'.repeat(20)}\` |`,
    `| base model, ONNX | SHA-256 \`${'ab'.repeat(32)}\` |`,
    '| licence of the base model | apache-2.0 |',
    '| local steps of this peer | 70, 16 examples each |',
    '| learning rate | 0.003, cosine |',
    '| exchanges with other peers | 11 |',
    '| peers it mixed with | 7 |',
    '| training examples of this peer | 130 |',
    '| training examples of those peers, as they say | 910 |',
    '| accuracy there | 87.50 % of 40 labels |',
    'Labels, in the order of the logits: no, yes.'
  ])('says: %s', (line) => expect(modelCard(facts).split('\n')).toContain(line))

  it('leaves out what nobody knows', () => {
    const { partners: _1, origin: _2, license: _3, samples: _4, evaluation: _5, ...known } = facts
    const card = modelCard({ ...known, isPeft: false, manifest: { ...manifest, task: { kind: 'causal-lm' } } })
    expect(frontMatter(card)).toEqual({
      pipeline_tag: 'text-generation',
      tags: ['peertune', 'federated-learning', 'peer-to-peer', 'dora']
    })
    expect(card).not.toMatch(/undefined|licence|peers it mixed|held-out/)
  })

  it('of a regression has its error and correlation', () => {
    const evaluation = { loss: 0.25, accuracy: Number.NaN, correlation: 0.5, count: 9 }
    const card = modelCard({ ...facts, manifest: { ...manifest, task: { kind: 'regression' } }, evaluation })
    expect(card).toContain('| correlation of predictions and labels there | 0.5000 over 9 labels |')
    expect(frontMatter(card)).toMatchObject({
      'model-index': [
        {
          results: [
            {
              metrics: [
                { type: 'mse', value: 0.25 },
                { type: 'pearsonr', value: 0.5 }
              ]
            }
          ]
        }
      ]
    })
  })
})

describe('the licence of a base model', () => {
  it.each([
    ['---\nlicense: apache-2.0\ntags: [a]\n---\n# Model\n', 'apache-2.0'],
    ['---\r\nlicense: mit\r\n---\r\n', 'mit'],
    ['---\nlicense: other\nlicense_name: llama3.2\n---\n', 'llama3.2'],
    ['---\nlicense: [mit, bsd]\n---\n', undefined],
    ['---\nlicense: "mit |\\n# New heading"\n---\n', undefined],
    ['---\nlicense: {\n---\n', undefined],
    ['# license: mit\n', undefined]
  ])('%j: %s', async (text, expected) => {
    await writeFile(folder.at('README.md'), text)
    expect(await licenseOf(folder.at('model.onnx'))).toBe(expected)
  })

  it('is found one folder up from onnx/', async () => {
    await writeFile(folder.at('README.md'), '---\nlicense: mit\n---\n')
    await mkdir(folder.at('onnx'))
    expect(await licenseOf(folder.at('onnx/model.onnx'))).toBe('mit')
  })
})

describe('with whom a node has mixed', () => {
  const table = (peers: readonly string[], samples: Readonly<Record<string, number>>): PeerTable =>
    ({
      exchanged: new Map(peers.map((peer) => [peer, { atStep: 1, atMs: 1 }])),
      records: new Map(Object.entries(samples).map(([peer, count]) => [peer, { announcement: { samples: count } }]))
    }) as unknown as PeerTable

  it('is written down with each checkpoint, over all its lives', async () => {
    const dataDir = folder.at('data')
    await mkdir(dataDir)
    expect(await readPartners(dataDir)).toBeUndefined()
    let now: PeerTable | undefined
    const store = withPartnerBook(createMemoryStore(), { dataDir, table: () => now })
    const state = stateAt(3)
    await store.save(state)
    expect(await readPartners(dataDir)).toBeUndefined()
    now = table(['a', 'b'], { a: 30, b: 12, stranger: 99 })
    await store.save(state)
    expect(await readPartners(dataDir)).toEqual({ peers: 2, samples: 42 })
    now = table(['c', 'b'], { b: 13 })
    await store.save(state)
    expect(await readPartners(dataDir)).toEqual({ peers: 3, samples: 43 })
    expect((await store.load(state))?.step).toBe(3)
  })
})
