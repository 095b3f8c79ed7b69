import { chooseDevice } from '../../onnx/runtime/device.js'
import { withFloat32Check } from '../../train/step/float32-check.js'
import { createLocalTrainer } from '../../train/step/local-trainer.js'
import type { Arithmetic, Trainer, TrainerSpec } from '../../train/trainer.js'
import { probeOnce } from './probe-child.js'
import { type LoadOptions, loadTrainableModel } from './program.js'

/** Megabytes kept of what the frozen part below the lowest adapter gives for each example, where there is such a part. */
export const DEFAULT_ACTIVATION_CACHE_MB = 256

/** Examples at a time of the one step that int8 is compared with float32 in: it must not take more memory than the rest. */
const CHECK_ROWS = 1

/** A trainer in this process, on the device asked for where that works. Throws what loading the model throws. */
export async function openLocalTrainer(spec: TrainerSpec, options: LoadOptions = {}): Promise<Trainer> {
  const { activationCacheMb = DEFAULT_ACTIVATION_CACHE_MB, memoryMb, microBatch, arithmetic = 'float32' } = spec
  const device = await chooseDevice(spec.device, { probe: probeOnce })
  const open = async (arithmetic: Arithmetic, microBatch?: number): Promise<Trainer> => {
    const load = { ...options, activationCacheMb, arithmetic, ...(memoryMb !== undefined && { memoryMb }) }
    const { buildProgram, refuseUntrainable, ...model } = await loadTrainableModel(spec, load)
    await refuseUntrainable()
    return createLocalTrainer({
      description: { ...model, device },
      buildProgram,
      session: { device: device.used, threads: spec.threads },
      activationCacheBytes: activationCacheMb * 2 ** 20,
      ...(microBatch !== undefined && { microBatch })
    })
  }
  // The integer kernels are the CPU's; other devices multiply floats fast enough.
  const used = device.used === 'cpu' ? arithmetic : 'float32'
  const trainer = await open(used, microBatch)
  return used === 'int8' ? withFloat32Check(trainer, () => open('float32', CHECK_ROWS)) : trainer
}
