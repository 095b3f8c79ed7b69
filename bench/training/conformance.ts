import { existsSync } from 'node:fs'
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { describeError } from '../../src/base/errors.js'
import { type CaseResult, runCase } from './conformance-case.js'

export interface ConformanceRow extends Partial<CaseResult> {
  readonly case: string
  readonly method: string
  /** Why there are no numbers: a method or operator that is not supported yet, a broken folder. */
  readonly error?: string
}

interface IndexedCase {
  readonly name: string
  readonly methods: Readonly<Record<string, { readonly zero_gradient_tensors?: readonly string[] }>>
}

/**
 * Every case of a folder laid out as `<case>/model.onnx`, `<case>/<method>/expected.safetensors`: gradients and ten AdamW
 * updates against PyTorch's. `worst` is the largest gradient error of the cases that ran.
 */
export async function run(args: readonly string[]) {
  const options = { dir: { type: 'string' }, method: { type: 'string' } } as const
  const { dir, method: only } = parseArgs({ args: [...args], options }).values
  if (dir === undefined) throw new Error('usage: npm run bench -- conformance --dir DIR [--method NAME] [--json]')
  const index = await readIndex(dir)
  const weightsDir = await mkdtemp(join(tmpdir(), 'peertune-conformance-'))
  const cases: ConformanceRow[] = []
  try {
    for (const name of await casesOf(dir))
      for (const method of await methodsOf(join(dir, name))) {
        if (only !== undefined && method !== only) continue
        const zeroGradientTensors = index.get(name)?.methods[method]?.zero_gradient_tensors ?? []
        const row = await measure(name, { directory: join(dir, name), method, zeroGradientTensors, weightsDir })
        console.log(printRow(row))
        cases.push(row)
      }
  } finally {
    await rm(weightsDir, { recursive: true, force: true })
  }
  const largest = (values: readonly (number | undefined)[]) => Math.max(0, ...values.map((value) => value ?? 0))
  return {
    cases,
    worst: largest(cases.map((row) => row.worstGradient)),
    worstTrajectory: largest(cases.map((row) => row.worstTrajectory))
  }
}

async function measure(name: string, options: Parameters<typeof runCase>[0]): Promise<ConformanceRow> {
  const { method } = options
  try {
    return { case: name, method, ...(await runCase(options)) }
  } catch (error) {
    return { case: name, method, error: describeError(error) }
  }
}

async function readIndex(dir: string): Promise<ReadonlyMap<string, IndexedCase>> {
  const path = join(dir, 'index.json')
  if (!existsSync(path)) return new Map()
  const { cases } = JSON.parse(await readFile(path, 'utf8')) as { cases: IndexedCase[] }
  return new Map(cases.map((entry) => [entry.name, entry]))
}

const subfoldersWith = async (dir: string, file: string): Promise<string[]> =>
  (await readdir(dir)).filter((name) => existsSync(join(dir, name, file))).sort()

const casesOf = (dir: string): Promise<string[]> => subfoldersWith(dir, 'model.onnx')
const methodsOf = (dir: string): Promise<string[]> => subfoldersWith(dir, 'expected.safetensors')

function printRow(row: ConformanceRow): string {
  const { worstGradient, worstTrajectory, worstTensor, error } = row
  const head = `${row.case.padEnd(24)} ${row.method.padEnd(10)}`
  if (error !== undefined) return `${head} ${error}`
  return `${head} gradient ${worstGradient?.toExponential(2)} trajectory ${worstTrajectory?.toExponential(2)} (${worstTensor})`
}
