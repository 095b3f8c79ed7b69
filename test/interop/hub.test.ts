import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { describe, expect, it } from 'vitest'
import { createHubClient } from '../../src/hub/client.js'
import { openSnapshot } from '../../src/hub/snapshot.js'
import { startMirror } from '../hub/mirror.js'
import { temporaryFolder } from '../node/folder.js'

/** A Python with huggingface_hub. */
const python = process.env.PEERTUNE_PYTHON
const folder = await temporaryFolder()
const SCRIPT = `import sys
from huggingface_hub import hf_hub_download, snapshot_download
print(snapshot_download("org/name", local_files_only=True))
print(open(hf_hub_download("org/name", "onnx/model.onnx", local_files_only=True)).read())
`

describe.skipIf(python === undefined)('the cache (needs PEERTUNE_PYTHON)', () => {
  it('is one that Python finds the model in, offline', { timeout: 60_000 }, async () => {
    const mirror = await startMirror()
    try {
      const files = { 'onnx/model.onnx': 'a graph', 'config.json': '{}' }
      mirror.put('org/name', { sha: '7'.repeat(40), files, large: ['onnx/model.onnx'] })
      const { folder: snapshot } = await openSnapshot({ repo: 'org/name', revision: 'main' }, 'model', {
        cacheDir: folder.root,
        client: createHubClient({ hubUrl: mirror.url }),
        weightFiles: async () => []
      })
      const env = { ...process.env, HF_HUB_CACHE: folder.root, HF_HUB_OFFLINE: '1' }
      const { stdout } = await promisify(execFile)(python as string, ['-c', SCRIPT], { env })
      expect(stdout.trim().split('\n')).toEqual([snapshot, 'a graph'])
    } finally {
      await mirror.close()
    }
  })
})
