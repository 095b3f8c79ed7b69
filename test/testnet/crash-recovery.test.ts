import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { crashRecoveriesOf } from '../../scripts/testnet/crash-recovery.js'
import { type FederationManifest, federationHash } from '../../src/base/federation.js'
import { silentLogger } from '../../src/base/log.js'
import { createFileStore } from '../../src/checkpoint/file-store.js'
import { dataDirPaths } from '../../src/node/host/data-dir.js'
import { parametersSha256, RESUMED } from '../../src/node/learner/resumed.js'
import { createSchema } from '../../src/tensor/schema.js'
import { temporaryFolder } from '../node/folder.js'

const folder = await temporaryFolder()
const SCHEMA = createSchema([{ name: 'h.0.lora_B.weight', shape: [3] }])
const manifest: FederationManifest = {
  peertune: 1,
  name: 'comebacks',
  model: { sha256: 'ab'.repeat(32) },
  task: { kind: 'causal-lm' },
  peft: { method: 'lora', rank: 2, alpha: 4, targets: ['q_proj'], head: [], seed: 's' },
  mixing: { localSteps: 4, codec: 'int8', gamma: 1, settleExchanges: 1, isolationFactor: 10 }
}

interface Left {
  readonly step: number
  readonly exchanges: number
  readonly parameters: readonly number[]
}
const EARLY: Left = { step: 8, exchanges: 2, parameters: [0.5, -3, 7] }
const LATE: Left = { step: 20, exchanges: 5, parameters: [0.25, 1, -2] }

/** A peer of three lives, killed after each of the first two: with what it left then, and what the lives of these ids said. */
async function peer(name: string, left: readonly (Left | undefined)[], said: readonly (readonly [number, Left])[]) {
  const crashes = left.map((_, life) => ({ dataDir: folder.at(join(name, String(life))), nextPid: 101 + life }))
  for (const [life, state] of left.entries())
    if (state !== undefined) await save(dataDirPaths(crashes[life]!.dataDir).checkpoints, state)
  const lines = said.map(([pid, { step, exchanges, parameters }]) => {
    const sha256 = parametersSha256(Float32Array.from(parameters))
    return JSON.stringify({ level: 'info', pid, step, exchanges, sha256, msg: RESUMED })
  })
  return { index: 4, crashes, log: await folder.write(`${name}.log`, `{"msg":"starts"}\n${lines.join('\n')}\n`) }
}

const save = (directory: string, { step, exchanges, parameters }: Left): Promise<void> =>
  createFileStore({ directory, log: silentLogger }).save({
    federationHash: federationHash(manifest),
    schemaHash: SCHEMA.hash,
    step,
    exchanges,
    phase: 'training',
    parameters: Float32Array.from(parameters),
    adam: { m: new Float32Array(3), v: new Float32Array(3), step },
    rng: {},
    cursor: { epoch: 0, position: 0 },
    journal: { inDoubt: [], accepted: [], lastExchangeStep: 0, settled: 0, logged: 0 },
    inDoubt: {},
    bytesSent: 0,
    bytesReceived: 0,
    savedAtMs: 0
  })

const comeback = ({ step, exchanges }: Left, kept: boolean) => ({ peer: 4, step, exchanges, kept })

const judged = async (...given: Parameters<typeof peer>) =>
  crashRecoveriesOf({ manifest }, SCHEMA, await peer(...given))

describe('a peer that was killed twice', () => {
  it('came back twice where each life went on with what the one before had left', async () => {
    const said = [
      [101, EARLY],
      [102, LATE]
    ] as const
    expect(await judged('twice', [EARLY, LATE], said)).toEqual([comeback(EARLY, true), comeback(LATE, true)])
  })

  it('came back once where it was killed again before it had read its checkpoint', async () => {
    expect(await judged('early', [EARLY, EARLY], [[102, EARLY]])).toEqual([comeback(EARLY, true)])
  })

  it('is judged by the life that followed, whatever others said', async () => {
    const said = [
      [101, LATE],
      [102, EARLY]
    ] as const
    expect(await judged('crossed', [EARLY, LATE], said)).toEqual([comeback(EARLY, false), comeback(LATE, false)])
  })

  it('has lost what it had where a life began anew, also one that said nothing of it', async () => {
    const anew: Left = { step: 4, exchanges: 0, parameters: [9, 9, 9] }
    expect(await judged('anew', [LATE, anew], [[102, anew]])).toEqual([comeback(LATE, false), comeback(anew, true)])
    expect(await judged('gone', [LATE, undefined], [])).toEqual([comeback(LATE, false)])
  })

  it('has nothing to come back to before its first checkpoint', async () => {
    expect(await judged('none', [undefined, EARLY], [[102, EARLY]])).toEqual([comeback(EARLY, true)])
  })

  it.each([
    ['step', { ...LATE, step: 21 }],
    ['exchanges', { ...LATE, exchanges: 4 }],
    ['parameters', { ...LATE, parameters: [0.25, 1, -2.0000002] }]
  ])('has not kept it where the %s are others', async (what, other) => {
    expect(await judged(what, [undefined, LATE], [[102, other]])).toEqual([comeback(LATE, false)])
  })
})
