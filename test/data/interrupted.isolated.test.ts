import { readdirSync, readlinkSync } from 'node:fs'
import { copyFile, mkdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { gzipSync } from 'node:zlib'
import sharp from 'sharp'
import { afterEach, describe, expect, it, vi } from 'vitest'
import type { TaskSpec } from '../../src/base/federation.js'
import type { ModelInputs } from '../../src/data/batches/collate.js'
import { readCsv } from '../../src/data/formats/csv.js'
import { readJsonl } from '../../src/data/formats/jsonl.js'
import { openTensor } from '../../src/data/formats/tensor-file.js'
import { readIdx } from '../../src/data/images/idx.js'
import { openDataset } from '../../src/data/source.js'
import type { DataSpec } from '../../src/data/spec.js'
import { dataSpec } from '../../src/node/config/data.js'
import { idx, npy, temporaryFolder, WORDPIECE } from './fixtures.js'

/** What happens right after somebody looked whether a file is there. */
const disk = vi.hoisted(() => ({ afterStat: (_: string): Promise<void> => Promise.resolve() }))
vi.mock('node:fs/promises', async (original) => {
  const real = await original<typeof import('node:fs/promises')>()
  const stat = async (path: string) => {
    const found = await real.stat(path)
    await disk.afterStat(path)
    return found
  }
  return { ...real, stat }
})
afterEach(() => {
  disk.afterStat = () => Promise.resolve()
})

interface Source {
  readonly spec: DataSpec
  readonly task: TaskSpec
  readonly model: ModelInputs
  /** Everything that is read. */
  readonly files: readonly string[]
}

const CLASSES: TaskSpec = { kind: 'sequence-classification', labels: ['cats', 'dogs'] }
const IMAGES: TaskSpec = { kind: 'image-classification', labels: ['cats', 'dogs'] }
const texts: ModelInputs = { inputs: ['input_ids', 'attention_mask'].map((name) => ({ name, shape: ['b', 's'] })) }
const pixels = (...shape: number[]): ModelInputs => ({ inputs: [{ name: 'pixel_values', shape: ['b', ...shape] }] })
/** Several chunks of a stream. */
const ROWS = 4000

async function inFolder() {
  const folder = await temporaryFolder()
  const write = async (name: string, content: string | Uint8Array): Promise<string> => {
    const path = join(folder, name)
    await mkdir(join(path, '..'), { recursive: true })
    await writeFile(path, content)
    return path
  }
  const table = async (path: string, kind: 'jsonl' | 'csv' | 'parquet', task = CLASSES): Promise<Source> => {
    const tokenizer = await write('tokenizer.json', JSON.stringify(WORDPIECE))
    const spec = { kind, path, tokenizer, sequenceLength: 8, seed: 's' }
    return { spec, task, model: texts, files: [path, tokenizer] }
  }
  return { folder, write, table }
}

const jsonl = (rows: number): string =>
  Array.from({ length: rows }, (_, i) => `{"text":"the cat sat a dog ran ${i}","label":${i % 2}}\n`).join('')

const SOURCES: Readonly<Record<string, () => Promise<Source>>> = {
  async jsonl() {
    const { write, table } = await inFolder()
    return table(await write('rows.jsonl', jsonl(ROWS)), 'jsonl')
  },
  async packed() {
    const { write, table } = await inFolder()
    return table(await write('rows.jsonl', jsonl(500)), 'jsonl', { kind: 'causal-lm' })
  },
  async csv() {
    const { write, table } = await inFolder()
    const rows = Array.from({ length: ROWS }, (_, i) => `"the cat, number ${i}, sat",${i % 2}\n`)
    return table(await write('rows.csv', `text,label\n${rows.join('')}`), 'csv')
  },
  async parquet() {
    const { folder, table } = await inFolder()
    const path = join(folder, 'rows.parquet')
    await copyFile(join(import.meta.dirname, 'golden/rows-snappy.parquet'), path)
    return table(path, 'parquet')
  },
  async text() {
    const { write, table } = await inFolder()
    const { files, spec } = await table(await write('play.txt', 'the cat sat. a dog ran. '.repeat(60)), 'jsonl')
    return { spec: { ...spec, kind: 'text' } as DataSpec, task: { kind: 'causal-lm' }, model: texts, files }
  },
  async images() {
    const { folder, write } = await inFolder()
    const files: string[] = []
    for (let i = 0; i < 24; i++) {
      const image = sharp({ create: { width: 4, height: 4, channels: 3, background: { r: i, g: 0, b: 0 } } })
      files.push(await write(`photos/${i % 2 ? 'cats' : 'dogs'}/${i}.png`, await image.png().toBuffer()))
    }
    const spec: DataSpec = { kind: 'images', path: join(folder, 'photos'), seed: 's' }
    return { spec, task: IMAGES, model: pixels(3, 4, 4), files: files.slice(0, 1) }
  },
  async idx() {
    const { write } = await inFolder()
    const grey = Uint8Array.from({ length: 3000 * 36 }, (_, i) => (i * i) % 251)
    const images = await write('images.gz', gzipSync(idx([3000, 6, 6], grey)))
    const labels = await write(
      'labels',
      idx(
        [3000],
        grey.subarray(0, 3000).map((value) => value % 2)
      )
    )
    const spec: DataSpec = { kind: 'idx', images, labels, testSamples: 10, seed: 's' }
    return { spec, task: IMAGES, model: pixels(1, 6, 6), files: [images, labels] }
  },
  async tensors() {
    const { write } = await inFolder()
    const input = await write('x.npy', npy('<f4', [ROWS, 2], new Float32Array(2 * ROWS)))
    const labels = await write('y.npy', npy('<i4', [ROWS], new Int32Array(ROWS)))
    const model = { inputs: [{ name: 'x', shape: ['b', 2], type: 'float32' }] }
    return {
      spec: { kind: 'tensors', inputs: { x: input }, labels, seed: 's' },
      task: CLASSES,
      model,
      files: [input, labels]
    }
  },
  async union() {
    const { write, table } = await inFolder()
    const one = await table(await write('one.jsonl', jsonl(ROWS)), 'jsonl')
    const two = await table(await write('two.jsonl', jsonl(ROWS)), 'jsonl')
    const spec = { kind: 'union', parts: [one.spec, two.spec], seed: 's' } as DataSpec
    return { ...one, spec, files: [...one.files, ...two.files] }
  }
}
/** What needs no file, and cannot be broken off. */
const WITHOUT_FILE = ['glyphs']

/** Open files that the tests have made, nameless ones of spools among them. */
function openFiles(): readonly string[] {
  return readdirSync('/proc/self/fd')
    .map((fd) => {
      try {
        return readlinkSync(`/proc/self/fd/${fd}`)
      } catch {
        return ''
      }
    })
    .filter((path) => path.includes('/peertune-'))
}

/** A stream that was ended closes its file in a turn of its own. The time-out of the test is the bound. */
async function untilClosed(): Promise<void> {
  if (process.platform !== 'linux') return
  while (openFiles().length > 0) await nextTurn()
}

it('knows every kind of source', () => {
  const kinds = dataSpec.options.flatMap(({ shape }): string[] => [...shape.kind.values])
  expect(kinds.filter((kind) => !(kind in SOURCES) && !WITHOUT_FILE.includes(kind))).toEqual([])
})

describe.each(Object.keys(SOURCES))('a source of %s', (kind) => {
  it('ends with the reason it was given, at whatever turn, and leaves nothing open', async () => {
    const { spec, task, model } = await SOURCES[kind]!()
    const ends: string[] = []
    // Later each time, until the reading was over before; by factors, for a busy disk makes a reading last many turns.
    for (let turns = 0; ends.at(-1) !== 'read'; turns = Math.ceil(1.2 * turns + 0.5)) {
      const controller = new AbortController()
      const reason = new Error(`after ${turns} turns`)
      const opening = openDataset(spec, task, model, { signal: controller.signal }).then(
        (data) => {
          data.close?.()
          return 'read'
        },
        (error: unknown) => (error === reason ? 'broken off' : String(error))
      )
      for (let i = 0; i < turns; i++) await nextTurn()
      controller.abort(reason)
      ends.push(await opening)
      await untilClosed()
    }
    expect(new Set(ends)).toEqual(new Set(['broken off', 'read']))
  })

  it('says which file it cannot read, where one goes after it was seen', async () => {
    const count = (await SOURCES[kind]!()).files.length
    for (let victim = 0; victim < count; victim++) {
      const { spec, task, model, files } = await SOURCES[kind]!()
      const gone = files[victim]!
      disk.afterStat = async (path) => {
        if (path === gone) await rm(gone)
      }
      await expect(openDataset(spec, task, model)).rejects.toMatchObject({
        code: expect.stringMatching(/^data\/no-(file|tokenizer)$/),
        message: expect.stringContaining(`${gone} (no such file or directory)`)
      })
      disk.afterStat = () => Promise.resolve()
      await untilClosed()
    }
  })
})

// It is there, it is a file, and reading it fails.
describe.runIf(process.platform === 'linux')('a file that its device does not give', () => {
  const BROKEN = '/proc/self/mem'
  const drained = async (rows: AsyncIterable<unknown>) => {
    for await (const _ of rows);
  }
  it.each([
    ['CSV', () => drained(readCsv(',')(BROKEN, { columns: [] }))],
    ['JSONL', () => drained(readJsonl(BROKEN, { columns: [] }))],
    ['a tensor', () => openTensor(BROKEN)],
    ['IDX', () => readIdx(BROKEN, 1)]
  ])('is named, with why: %s', async (_, read) => {
    await expect(read()).rejects.toMatchObject({
      code: 'data/no-file',
      message: 'cannot read /proc/self/mem (the device does not answer as it should)'
    })
  })
})
