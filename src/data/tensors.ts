import { setImmediate as nextTurn } from 'node:timers/promises'
import { sha256Hex } from '../base/bytes.js'
import { PeertuneError } from '../base/errors.js'
import { predictsTokens, type TaskSpec } from '../base/federation.js'
import { type Batch, type BatchTensor, IGNORED_LABEL } from './batches/batch.js'
import { type Collection, chooseHeldOut } from './splits/choose.js'
import { type Example, exampleLabels, type ModelInputs } from './batches/collate.js'
import { contentKey } from './splits/content-key.js'
import type { DatasetParts, Examples } from './batches/dataset.js'
import { orClosed } from './formats/files.js'
import { createNumberList } from './formats/number-list.js'
import type { OpenOptions } from './formats/progress.js'
import { MAX_ROWS } from './formats/row-store.js'
import type { TensorsSpec } from './spec.js'
import { badTensor, openTensor, type TensorFile } from './formats/tensor-file.js'
import { testFilesOf } from './formats/test-files.js'

/** Rows, and bytes of them, hashed between two turns of the event loop: some milliseconds. */
const ROWS_A_TURN = 256
const BYTES_A_TURN = 4 * 1024 * 1024

/** An example of a model with inputs of any name. */
interface TensorExample extends Example {
  readonly tensors: Readonly<Record<string, Float32Array | Int32Array>>
}

/**
 * Tensors in files as a dataset of any modality: one file an input of the model and one of labels, their first axis the
 * examples. Labels are int[n] for a classification, int[n, seq] for a token classification and float[n] (or [n, 1]) for a
 * regression. Rows stay in their files and are read when their turn comes. Throws `data/bad-tensor`,
 * `data/model-mismatch`.
 */
export async function readTensors(
  spec: TensorsSpec,
  task: TaskSpec,
  model: ModelInputs,
  options: OpenOptions = {}
): Promise<DatasetParts> {
  const need = { task, model, options }
  const main = await openTable(spec, need)
  return orClosed(main, async () => {
    const { testPath } = spec
    const test = testPath === undefined ? main : await openTestTable(spec, testPath, { need, main })
    const { training, heldOut, summary } = chooseHeldOut(main, test, spec)
    return {
      training: pick(main, training),
      heldOut: pick(test, heldOut),
      seed: spec.seed,
      collate: collator(main.inputs, task),
      summary,
      close() {
        main.close()
        if (test !== main) test.close()
      }
    }
  })
}

interface Need {
  readonly task: TaskSpec
  readonly model: ModelInputs
  readonly options: OpenOptions
}

/** The rows of several files side by side. */
interface TensorTable extends Collection {
  readonly inputs: readonly OpenInput[]
  readonly labelFile: TensorFile
  close(): void
}

async function openTable(spec: TensorsSpec, { task, model, options }: Need): Promise<TensorTable> {
  const files: TensorFile[] = []
  const close = () => {
    for (const file of files) file.close()
  }
  return orClosed({ close }, async () => {
    const inputs = await openInputs(spec, model, files)
    const labelFile = await openTensor(spec.labels)
    files.push(labelFile)
    const size = countOf(files)
    checkLabels(labelFile, task)
    const keys = await checkRows(files, { labelFile, seed: spec.testSeed ?? 'test', task, options })
    const classes = 'labels' in task && task.kind !== 'token-classification' ? task.labels : undefined
    const classOf = (row: number): number => labelFile.row(row)[0]!
    return { size, key: keys.at, inputs, labelFile, close, ...(classes && { labels: classOf, labelNames: classes }) }
  })
}

const pick = ({ inputs, labelFile }: TensorTable, places: Uint32Array): Examples => ({
  length: places.length,
  at: (index) => exampleAt(places[index]!, inputs, labelFile)
})

/** Rows of `testPath`, which must be of the same make: one collator serves both. */
async function openTestTable(
  spec: TensorsSpec,
  testPath: string,
  { need, main }: { readonly need: Need; readonly main: TensorTable }
): Promise<TensorTable> {
  const test = await openTable({ ...spec, ...testFilesOf(spec, testPath) }, need)
  return orClosed(test, async () => {
    const [own, others] = [filesOf(test), filesOf(main)]
    for (const [i, file] of own.entries()) {
      const known = others[i]!
      const [expected, got] = [known, file].map(({ shape, isFloat }) =>
        JSON.stringify([shape.slice(1), isFloat ? 'floats' : 'whole numbers'])
      )
      if (expected !== got) throw badTensor(file.name, `rows as in ${known.name}: ${expected}`, got!)
    }
    return test
  })
}

const filesOf = ({ inputs, labelFile }: TensorTable): readonly TensorFile[] => [
  ...inputs.map(({ file }) => file),
  labelFile
]

/** Looks at every row once and resolves with the key of its content. */
async function checkRows(
  files: readonly TensorFile[],
  { labelFile, seed, task, options }: Pick<Need, 'task' | 'options'> & { labelFile: TensorFile; seed: string }
) {
  const keys = createNumberList(Uint32Array)
  const count = labelFile.shape[0]!
  let bytes = 0
  for (let row = 0; row < count; row++) {
    checkLabelRow(labelFile, row, task)
    const contents = files.map((file) => file.bytes(row))
    keys.push(contentKey(seed, contents.map((content) => sha256Hex(content)).join()))
    bytes += contents.reduce((sum, { length }) => sum + length, 0)
    if (row % ROWS_A_TURN < ROWS_A_TURN - 1 && bytes < BYTES_A_TURN) continue
    bytes = 0
    options.signal?.throwIfAborted()
    options.onProgress?.({ file: labelFile.name, bytes: row + 1, totalBytes: count, rows: row + 1 })
    await nextTurn()
  }
  return keys
}

interface OpenInput {
  readonly name: string
  readonly file: TensorFile
  readonly type: BatchTensor['type']
}

/** What is opened goes to `files` at once, so that it can be closed whatever is wrong with the next. */
async function openInputs({ inputs }: TensorsSpec, model: ModelInputs, files: TensorFile[]): Promise<OpenInput[]> {
  const [wanted, given] = [model.inputs.map(({ name }) => name), Object.keys(inputs)]
  if (wanted.some((name) => !given.includes(name)) || given.some((name) => !wanted.includes(name)))
    throw new PeertuneError(
      'data/model-mismatch',
      `the model asks for ${wanted.join(', ')}, the data has ${given.join(', ')}`,
      {
        facts: { expected: wanted, got: given },
        hint: 'name a file for each input of the model under `inputs`'
      }
    )
  const open: OpenInput[] = []
  for (const { name, shape, type } of model.inputs) {
    const file = await openTensor(inputs[name]!)
    files.push(file)
    const [expected, got] = [shape.slice(1), file.shape.slice(1)]
    const fits = expected.length === got.length && expected.every((dim, i) => typeof dim === 'string' || dim === got[i])
    if (!fits) throw badTensor(file.name, `rows of [${expected}] for the input ${name}`, `[${got}]`)
    const isFloat = type === undefined ? file.isFloat : type === 'float32'
    // Pixels and other counts may stand for floats, but no float for a token.
    if (file.isFloat && !isFloat) throw badTensor(file.name, `whole numbers for the input ${name}`, file.type)
    open.push({ name, file, type: isFloat ? 'float32' : 'int64' })
  }
  return open
}

function countOf(files: readonly TensorFile[]): number {
  const count = files[0]?.shape[0] ?? 0
  const ragged = files.find(({ shape }) => shape[0] !== count)
  if (ragged !== undefined) throw badTensor(ragged.name, `${count} rows as in ${files[0]?.name}`, `${ragged.shape[0]}`)
  if (count > MAX_ROWS) throw badTensor(files[0]!.name, `at most ${MAX_ROWS} rows`, `${count}`)
  return count
}

function checkLabels({ name, shape, type, isFloat, rowSize }: TensorFile, task: TaskSpec): void {
  if (predictsTokens(task.kind)) throw badTensor(name, 'a task with labels', task.kind)
  if (task.kind !== 'regression' && isFloat) throw badTensor(name, 'labels that are whole numbers', type)
  if (task.kind === 'token-classification' ? shape.length !== 2 : rowSize !== 1)
    throw badTensor(
      name,
      task.kind === 'token-classification' ? 'labels [n, seq]' : 'one label a row',
      `shape [${shape}]`
    )
}

function checkLabelRow(labels: TensorFile, row: number, task: TaskSpec): void {
  const values = labels.row(row)
  for (const value of values) {
    const known =
      'labels' in task ? (value >= 0 && value < task.labels.length) || value === IGNORED_LABEL : Number.isFinite(value)
    if (known) continue
    const expected = 'labels' in task ? `labels below ${task.labels.length}` : 'finite numbers'
    throw badTensor(labels.name, expected, `${value} in row ${row}`)
  }
}

function exampleAt(row: number, inputs: readonly OpenInput[], labels: TensorFile): TensorExample {
  const tensors = Object.fromEntries(
    inputs.map(({ name, file, type }) => [name, type === 'float32' ? Float32Array.from(file.row(row)) : file.row(row)])
  )
  const own = labels.row(row)
  return {
    values: new Int32Array(0),
    tensors,
    label: own[0] ?? IGNORED_LABEL,
    ...(own instanceof Int32Array && { labels: own })
  }
}

/** A row without an example repeats the first, with labels that do not count: zeros could be what a model divides by. */
function collator(inputs: readonly OpenInput[], task: TaskSpec) {
  return (examples: readonly Example[], rows: number): Batch => {
    const given = examples as readonly TensorExample[]
    const tensors = inputs.map(({ name, file, type }): [string, BatchTensor] => {
      const shape = [rows, ...file.shape.slice(1)]
      const data = type === 'float32' ? new Float32Array(rows * file.rowSize) : new Int32Array(rows * file.rowSize)
      for (let row = 0; row < rows; row++) data.set((given[row] ?? given[0]!).tensors[name]!, row * file.rowSize)
      return [name, { type, shape, data } as BatchTensor]
    })
    return { inputs: Object.fromEntries(tensors), labels: labelsOf(given, rows, task) }
  }
}

function labelsOf(examples: readonly TensorExample[], rows: number, { kind }: TaskSpec): Batch['labels'] {
  if (kind !== 'token-classification')
    return exampleLabels(examples, rows, kind === 'regression' ? 'number' : 'example')
  const length = examples[0]?.labels?.length ?? 0
  const data = new Int32Array(rows * length).fill(IGNORED_LABEL)
  for (const [row, { labels }] of examples.entries()) if (labels !== undefined) data.set(labels, row * length)
  return { shape: [rows, length], data }
}
