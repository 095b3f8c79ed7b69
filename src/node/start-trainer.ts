import { entryUrl } from '../base/entry.js'
import { type ChildTrainer, spawnTrainer } from '../train/process/child-trainer.js'
import type { NodeConfig } from './config/schema.js'
import { maskOf } from './config/mask-of.js'
import { ownPlan } from './config/own-plan.js'
import type { Wiring } from './wiring.js'

/** The trainer of a node, in a process of its own, once it has loaded the model. Throws what loading the model throws. */
export async function startTrainer({ config, manifest, clock, log }: Wiring): Promise<ChildTrainer> {
  const { model: modelPath, device, threads, memory, arithmetic } = config
  const { task } = manifest
  const peft = ownPlan(manifest, config.slots)
  const trainer = await spawnTrainer({
    entry: entryUrl('node/model/trainer-main.js'),
    spec: { modelPath, task, peft, device, threads, arithmetic, ...maskOf(config), ...memoryBounds(memory) },
    clock,
    log,
    ...(memory.limitMb !== null && { memoryLimitMb: memory.limitMb })
  })
  const { used, reason } = trainer.description.device
  log.info({ device: used, reason, parameters: trainer.description.schema.size }, 'the trainer is ready')
  return trainer
}

/** As the status shows it. */
export const runningTrainer = ({ description, pid, restarts, float32Cosine }: ChildTrainer) => ({
  ...description,
  pid,
  restarts,
  float32Cosine
})

const memoryBounds = ({ activationsMb, microBatch, activationCacheMb }: NodeConfig['memory']) => ({
  activationCacheMb,
  ...(activationsMb !== null && { memoryMb: activationsMb }),
  ...(microBatch !== null && { microBatch })
})
