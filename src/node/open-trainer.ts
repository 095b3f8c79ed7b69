import { chooseDevice } from '../onnx/device.js'
import { createLocalTrainer } from '../train/local-trainer.js'
import type { Trainer, TrainerSpec } from '../train/trainer.js'
import { probeOnce } from './probe-child.js'
import { type LoadOptions, loadTrainableModel } from './program.js'

/** Megabytes kept of what the frozen part below the lowest adapter gives for each example, where there is such a part. */
export const DEFAULT_ACTIVATION_CACHE_MB = 256

/** A trainer in this process, on the device asked for where that works. Throws what loading the model throws. */
export async function openLocalTrainer(spec: TrainerSpec, options: LoadOptions = {}): Promise<Trainer> {
  const { activationCacheMb = DEFAULT_ACTIVATION_CACHE_MB, memoryMb, microBatch } = spec
  const load = { ...options, activationCacheMb, ...(memoryMb !== undefined && { memoryMb }) }
  const { buildProgram, ...model } = await loadTrainableModel(spec, load)
  const device = await chooseDevice(spec.device, { probe: probeOnce })
  return createLocalTrainer({
    description: { ...model, device },
    buildProgram,
    session: { device: device.used, threads: spec.threads },
    activationCacheBytes: activationCacheMb * 2 ** 20,
    ...(microBatch !== undefined && { microBatch })
  })
}
