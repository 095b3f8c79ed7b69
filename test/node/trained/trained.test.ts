import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { type FederationManifest, federationHash } from '../../../src/base/federation.js'
import type { JsonValue } from '../../../src/base/json.js'
import { silentLogger } from '../../../src/base/log.js'
import { createFileExchangeLog } from '../../../src/checkpoint/file-exchange-log.js'
import { createFileStore } from '../../../src/checkpoint/file-store.js'
import type { LogEntry } from '../../../src/consensus/exchange/exchange-log.js'
import { dataDirPaths } from '../../../src/node/host/data-dir.js'
import { readTrained } from '../../../src/node/trained/trained.js'
import { createSchema } from '../../../src/tensor/schema.js'

const SCHEMA = createSchema([
  { name: 'h.0.lora_A.weight', shape: [2, 2] },
  { name: 'h.0.lora_B.weight', shape: [3] }
])
const MANIFEST: FederationManifest = {
  peertune: 1,
  name: 'read',
  model: { sha256: 'ab'.repeat(32) },
  task: { kind: 'causal-lm' },
  peft: { method: 'lora', rank: 2, alpha: 4, targets: ['q_proj'], head: [], seed: 's' },
  share: ['lora_B'],
  mixing: { localSteps: 4, codec: 'int8', gamma: 1, settleExchanges: 1, isolationFactor: 10 }
}
const HASHES = { federationHash: federationHash(MANIFEST), schemaHash: SCHEMA.hash }

let dataDir: string
beforeEach(() => {
  dataDir = mkdtempSync(join(tmpdir(), 'peertune-trained-'))
})
afterEach(() => rmSync(dataDir, { recursive: true, force: true }))

const checkpoints = () => dataDirPaths(dataDir).checkpoints

async function append(entries: readonly LogEntry[], after = 0): Promise<void> {
  const identity = { ...HASHES, size: 3 }
  const log = createFileExchangeLog({ directory: checkpoints(), identity, log: silentLogger })
  await log.load(after)
  for (const entry of entries) log.append(entry)
  await log.synced()
  await log.close()
}

const save = (logged: number) =>
  createFileStore({ directory: checkpoints(), log: silentLogger }).save({
    ...HASHES,
    step: 12,
    exchanges: 5,
    phase: 'training',
    parameters: Float32Array.of(0.5, -3, 7, 2, 1, 2, 3),
    adam: { m: new Float32Array(7), v: new Float32Array(7), step: 12 },
    rng: {},
    cursor: { epoch: 0, position: 0 },
    journal: { inDoubt: [], accepted: [], lastExchangeStep: 10, settled: 0, logged } as unknown as JsonValue,
    inDoubt: {},
    bytesSent: 0,
    bytesReceived: 0,
    savedAtMs: 0
  })

const made = (kind: 'committed' | 'in-doubt', exchangeId: string, ...increment: number[]): LogEntry => ({
  kind,
  exchangeId,
  peer: 'p',
  partnerPhase: 'training',
  increment: Float32Array.from(increment)
})

describe('what a data directory holds', () => {
  it('is nothing before the first checkpoint', async () => {
    expect(await readTrained(dataDir, MANIFEST, SCHEMA)).toBeUndefined()
  })

  it('is the checkpoint and the exchanges behind it, but no exchange in doubt', async () => {
    await append([made('committed', 'a', 100, 100, 100)])
    await save(1)
    const doubt = made('in-doubt', 'b', 0.5, 0.25, 4)
    const settled = { kind: 'settled', exchangeId: 'b', peer: 'p', fate: 'committed' } as const
    const open = made('in-doubt', 'd', 9, 9, 9)
    await append([doubt, settled, made('committed', 'c', -3, 0, 1), open], 1)
    const state = await readTrained(dataDir, MANIFEST, SCHEMA)
    expect([...state!.parameters]).toEqual([0.5, -3, 7, 2, 1 + 0.5 - 3, 2 + 0.25, 3 + 4 + 1])
    expect(state!.exchanges).toBe(7)
  })

  it('is only looked at: entries that cannot be used stay for the node to judge', async () => {
    await save(0)
    await append([made('committed', 'late', 1, 1, 1)], 40)
    const before = readdirSync(checkpoints())
    const state = await readTrained(dataDir, MANIFEST, SCHEMA)
    expect([...state!.parameters]).toEqual([0.5, -3, 7, 2, 1, 2, 3])
    expect(readdirSync(checkpoints())).toEqual(before)
  })
})
