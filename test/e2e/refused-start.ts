import { execFile } from 'node:child_process'
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach, expect, vi } from 'vitest'
import { entryUrl } from '../../src/base/entry.js'
import { printManifest } from '../../src/node/config/manifest.js'
import { printYaml } from '../../src/node/host/yaml-file.js'
import { MODEL } from './daemon-folder.js'

const CLI = fileURLToPath(entryUrl('cli/main.js'))
const LABELS = ['A', 'B', 'C']
/** Milliseconds. A start that is refused is over long before; one that is not would train for ever. */
const ENDS_WITHIN_MS = 60_000

/** How the command line ended. */
export interface Ended {
  readonly code: number
  readonly stderr: string
}

export interface FederationSettings {
  readonly sha256: string
  readonly labels?: readonly string[]
  readonly head?: readonly string[]
  /** Of the file's text. */
  readonly change?: (text: string) => string
}

/** A fresh folder for every test of a file, with what a start that must not succeed is given. */
export interface RefusalFolder {
  file(name: string): string
  /** `federation.yaml` of images of three letters. */
  writeFederation(settings: FederationSettings): Promise<void>
  /** Runs the daemon on that federation until it ends by itself. */
  start(overrides?: Readonly<Record<string, unknown>>): Promise<Ended>
  /** Every file and folder there is, caches of weights and hashes among them. */
  left(): Promise<readonly string[]>
}

export function refusalFolder(): RefusalFolder {
  let folder: string
  const file = (name: string): string => join(folder, name)

  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'peertune-refused-'))
    vi.stubEnv('XDG_CACHE_HOME', file('cache'))
  })
  afterEach(async () => {
    vi.unstubAllEnvs()
    await rm(folder, { recursive: true, force: true })
  })
  return {
    file,
    async writeFederation({ sha256, labels = LABELS, head = ['classifier'], change = (text) => text }) {
      const text = printManifest({
        peertune: 1,
        name: 'refused',
        model: { sha256 },
        task: { kind: 'image-classification', labels },
        peft: { method: 'lora', rank: 2, alpha: 4, targets: ['query'], head, seed: 's' },
        mixing: { localSteps: 4, codec: 'int8', gamma: 1, settleExchanges: 1, isolationFactor: 10 }
      })
      await writeFile(file('federation.yaml'), change(text))
    },
    async start(overrides = {}) {
      await writeFile(file('node.yaml'), printYaml({ ...configIn(folder), ...overrides }))
      const args = [CLI, 'start', '--config', file('node.yaml'), '--log-level', 'silent']
      return new Promise((resolve) => {
        execFile(process.execPath, args, { timeout: ENDS_WITHIN_MS }, (error, _stdout, stderr) =>
          resolve({ code: error === null ? 0 : Number(error.code), stderr: stderr.trim() })
        )
      })
    },
    left: () => readdir(folder, { recursive: true })
  }
}

const configIn = (folder: string) => ({
  federation: join(folder, 'federation.yaml'),
  model: MODEL,
  dataDir: join(folder, 'data'),
  data: { kind: 'glyphs', classes: ['A', 'B'], samples: 8, seed: 'x', testSamples: 6 },
  training: { steps: 2, batchSize: 4 },
  device: 'cpu',
  threads: 1,
  listen: ['/ip4/127.0.0.1/tcp/0'],
  http: { port: 0 }
})

/** One sentence on one line, no stack, and what the operator is told to put right. */
export function expectSentence({ code, stderr }: Ended, pattern: RegExp, expectedCode = 2): void {
  expect(stderr).toMatch(pattern)
  expect(stderr).not.toMatch(/\n/)
  expect(code).toBe(expectedCode)
}

/** Runs `action` while somebody else listens at the port that it is given. */
export async function withTakenPort(action: (port: number) => Promise<void>): Promise<void> {
  const server = createServer()
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  try {
    await action((server.address() as AddressInfo).port)
  } finally {
    server.close()
  }
}
