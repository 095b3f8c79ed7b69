import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { describe, expect, it } from 'vitest'
import { modelCard } from '../../src/node/trained/model-card.js'
import { temporaryFolder } from '../node/folder.js'

/** A Python with huggingface_hub. */
const python = process.env.PEERTUNE_PYTHON
const folder = await temporaryFolder()
const SCRIPT = `import json, sys
from huggingface_hub import ModelCard
data = ModelCard.load(sys.argv[1]).data
[result, *_] = data.eval_results
print(json.dumps([data.library_name, data.base_model, data.license, data.pipeline_tag, data.tags, result.metric_type, result.metric_value]))
`

describe.skipIf(python === undefined)('a model card (needs PEERTUNE_PYTHON)', () => {
  it('is one that huggingface_hub reads, results and all', { timeout: 60_000 }, async () => {
    const card = modelCard({
      manifest: {
        peertune: 1,
        name: 'letters',
        model: { sha256: 'ab'.repeat(32) },
        task: { kind: 'image-classification', labels: ['A', 'B'] },
        peft: { method: 'lora', rank: 4, alpha: 8, targets: ['query'], head: [], seed: 's' },
        mixing: { localSteps: 7, codec: 'int8', gamma: 1, settleExchanges: 3, isolationFactor: 10 }
      },
      parameters: 12,
      state: { step: 7, exchanges: 1, bytesSent: 5, bytesReceived: 6 },
      training: { batchSize: 16, learningRate: 0.003, schedule: 'constant' },
      origin: { repo: 'org/vit', sha: '12'.repeat(20), file: 'model.onnx' },
      license: 'mit',
      evaluation: { loss: 0.4321, accuracy: 0.875, count: 40 },
      isPeft: true
    })
    const file = await folder.write('README.md', card)
    const { stdout } = await promisify(execFile)(python as string, ['-c', SCRIPT, file])
    const tags = ['peertune', 'federated-learning', 'peer-to-peer', 'lora']
    expect(JSON.parse(stdout)).toEqual(['peft', 'org/vit', 'mit', 'image-classification', tags, 'loss', 0.4321])
  })
})
