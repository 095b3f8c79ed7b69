import { describe, expect, it } from 'vitest'
import { sha256Hex } from '../../../src/base/bytes.js'
import type { PeftPlan, PeftSpec } from '../../../src/base/peft-spec.js'
import { ownPlan } from '../../../src/node/config/own-plan.js'
import { withCommonStart } from '../../../src/node/model/start-from.js'
import { readAdapterFolder, writeAdapter } from '../../../src/peft/files/adapter-format.js'
import { createMethod } from '../../../src/peft/create-method.js'
import { isPrivateName } from '../../../src/peft/method/private.js'
import { viewOf } from '../../../src/tensor/schema.js'
import { nestedPart } from '../../../src/tensor/slots.js'
import type { Trainer } from '../../../src/train/trainer.js'
import { smallModel, values } from '../../peft/small-model.js'
import { temporaryFolder } from '../folder.js'

const folder = await temporaryFolder()
const task = { kind: 'sequence-classification', labels: ['a', 'b', 'c'] } as const
const lora: PeftSpec = { method: 'lora', rank: 4, alpha: 6, targets: ['up', 'down'], head: [], seed: 'spring' }

async function trainerOf(peft: PeftPlan): Promise<Trainer> {
  const { schema, initial } = createMethod(peft, (await smallModel()).base, task)
  return {
    description: { schema, initial, inputs: [], modelSha256: '', device: { used: 'cpu' } },
    step: async () => ({ loss: 0, gradients: new Float32Array(schema.size) }),
    evaluate: async () => ({ lossSum: 0, count: 1, correct: 0 }),
    close: async () => undefined
  }
}

/** A folder that a LoRA of all slots starts from, and what its parameters are. */
async function startFolder() {
  const { schema } = createMethod(lora, (await smallModel()).base, task)
  const start = values(schema.size, 5)
  const out = folder.at('start')
  await writeAdapter(out, {
    tensors: schema.entries.map((entry) => ({ ...entry, values: viewOf(start, entry) })),
    plan: lora
  })
  return { schema, start, out, startFrom: { sha256: sha256Hex((await readAdapterFolder(out)).bytes) } }
}

describe('a common start', () => {
  it('is cut to the slots of a peer that has fewer', async () => {
    const { schema, start, out, startFrom } = await startFolder()
    const manifest = { peft: lora, peerRanks: 'nested', startFrom } as const
    const trainer = await trainerOf(ownPlan(manifest, 3))
    const { description } = await withCommonStart(trainer, manifest, { startFrom: out })
    expect(description.initial).toEqual(nestedPart(schema, description.schema).take(start))
    await expect(withCommonStart(trainer, { peft: lora, startFrom }, { startFrom: out })).rejects.toMatchObject({
      code: 'config/wrong-adapter'
    })
  })

  it('is that of the shared adapter; a private one beside it starts from the seed', async () => {
    const { schema, start, out, startFrom } = await startFolder()
    const peft = [lora, { ...lora, rank: 2, private: true }]
    const trainer = await trainerOf(peft)
    const { description } = await withCommonStart(trainer, { peft, startFrom }, { startFrom: out })
    for (const entry of description.schema.entries) {
      const shared = schema.entries.find(({ name }) => name === entry.name)
      expect(shared === undefined).toBe(isPrivateName(entry.name))
      const expected = shared === undefined ? viewOf(trainer.description.initial, entry) : viewOf(start, shared)
      expect(viewOf(description.initial, entry)).toEqual(expected)
    }
  })
})
