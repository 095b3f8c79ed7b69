import { existsSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { runCase } from '../../bench/training/conformance-case.js'

const golden = fileURLToPath(new URL('../golden/conformance', import.meta.url))
/** A larger collection of the same layout, on machines that have it. */
const shared = fileURLToPath(new URL('../../../shared/conformance', import.meta.url))

let weightsDir: string
beforeAll(async () => {
  weightsDir = await mkdtemp(join(tmpdir(), 'peertune-gradients-'))
})
afterAll(() => rm(weightsDir, { recursive: true }))

const expectPyTorch = async (directory: string, method: string): Promise<void> => {
  const result = await runCase({ directory, method, weightsDir })
  expect(result.worstTensor).not.toBe('')
  expect(result.worstGradient).toBeLessThan(1e-5)
  expect(result.worstTrajectory).toBeLessThan(1e-4)
}

describe('gradients and ten AdamW steps are PyTorch’s', () => {
  it.each(['bert-torchscript', 'gpt2-dynamo', 'llama-dynamo', 'vit-torchscript'])('%s, LoRA', (name) =>
    expectPyTorch(join(golden, name), 'lora')
  )

  // One export a family, both exporters, opsets 11 to 18; docs/models.md has them all.
  it.each([
    'albert-torchscript-17',
    'clip-text-torchscript-17',
    'clip-vision-dynamo-18',
    'convnext-torchscript-17',
    'distilbert-torchscript-11',
    'gemma2-torchscript-17',
    'gpt-neox-dynamo-18',
    'mistral-dynamo-18',
    'opt-torchscript-17',
    'phi-dynamo-18',
    'roberta-dynamo-18',
    't5-torchscript-17',
    'whisper-torchscript-17'
  ])('%s, LoRA', (name) => expectPyTorch(join(golden, name), 'lora'))

  it.each([
    ['bert-torchscript', 'rslora'],
    ['bert-torchscript', 'dora'],
    ['bert-torchscript', 'ia3'],
    ['bert-torchscript', 'bitfit'],
    ['bert-torchscript', 'lntuning'],
    ['bert-torchscript', 'prompt'],
    ['llama-dynamo', 'dora'],
    ['llama-dynamo', 'ia3'],
    ['llama-dynamo', 'prefix'],
    ['llama-dynamo', 'prompt'],
    ['gpt2-dynamo', 'prefix']
  ])('%s, %s', (name, method) => expectPyTorch(join(golden, name), method))

  // The tied embedding, per-use norm weights and opset 23's operators: kept out of the repository for their size.
  it.skipIf(!existsSync(shared)).each([
    ['llama-dynamo-opset23', 'lora-all'],
    ['llama-dynamo-opset23', 'full'],
    ['gpt2-dynamo', 'full'],
    ['vit-dynamo', 'full']
  ])('%s, %s', (name, method) => expectPyTorch(join(shared, name), method))
})
