import { cp, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import type { Message } from '../../../src/data/text/chat-template.js'
import { openDataset } from '../../../src/data/source.js'
import { openLocalTrainer } from '../../../src/node/model/open-trainer.js'
import { evaluateDataset } from '../../../src/train/evaluate.js'
import { temporaryFolder } from '../../data/fixtures.js'

/** What PyTorch loses on the assistant's turns of the same conversations: see golden/instruction.py. */
const GOLDEN = join(import.meta.dirname, '../../golden')
const TOKENS = join(import.meta.dirname, '../../data/golden')
const read = async (path: string): Promise<unknown> => JSON.parse(await readFile(path, 'utf8'))

describe('instruction tuning', () => {
  it('has the loss of PyTorch on what the assistant says, and counts those tokens alone', async () => {
    const expected = (await read(join(GOLDEN, 'instruction.json'))) as { loss: number; count: number }[]
    const { chats, templates } = (await read(join(TOKENS, 'transformers.json'))) as {
      chats: { messages: Message[]; marked: boolean }[]
      templates: { plain: string; marked: string }
    }
    const folder = await temporaryFolder()
    await cp(join(TOKENS, 'bytelevel'), folder, { recursive: true })
    const task = { kind: 'instruction-tuning' } as const
    const trainer = await openLocalTrainer(
      {
        modelPath: join(GOLDEN, 'conformance', 'llama-dynamo', 'model.onnx'),
        task,
        peft: { method: 'lora', rank: 2, alpha: 4, targets: ['q_proj'], head: [], seed: 'chat' },
        device: 'cpu',
        threads: 1
      },
      { weightsDir: folder }
    )
    for (const [i, { messages, marked }] of chats.entries()) {
      await writeFile(join(folder, 'chat_template.jinja'), templates[marked ? 'marked' : 'plain'])
      await writeFile(join(folder, 'chats.jsonl'), JSON.stringify({ messages }))
      const spec = {
        kind: 'jsonl',
        path: join(folder, 'chats.jsonl'),
        tokenizer: folder,
        sequenceLength: 96,
        seed: 's'
      } as const
      const data = await openDataset({ ...spec, testPath: spec.path }, task, trainer.description)
      // A second row that is padding alone must change nothing.
      const result = await evaluateDataset(trainer, trainer.description.initial, data.evaluation(2))
      expect(result.count).toBe(expected[i]!.count)
      expect(result.loss).toBeCloseTo(expected[i]!.loss, 4)
      data.close?.()
    }
    await trainer.close()
  })
})
