import { chooseDevice } from '../onnx/device.js'
import { createLocalTrainer } from '../train/local-trainer.js'
import type { Trainer, TrainerSpec } from '../train/trainer.js'
import { type LoadOptions, loadTrainableModel } from './program.js'

/** A trainer in this process, on the device asked for where that works. Throws what loading the model throws. */
export async function openLocalTrainer(spec: TrainerSpec, options: LoadOptions = {}): Promise<Trainer> {
  const { buildProgram, ...model } = await loadTrainableModel(spec, options)
  const device = await chooseDevice(spec.device)
  return createLocalTrainer({
    description: { ...model, device },
    buildProgram,
    session: { device: device.used, threads: spec.threads }
  })
}
