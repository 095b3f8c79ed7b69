import { availableParallelism } from 'node:os'
import { systemClock } from '../../src/base/clock.js'
import { entryUrl } from '../../src/base/entry.js'
import { silentLogger } from '../../src/base/log.js'
import { spawnTrainer } from '../../src/train/process/child-trainer.js'
import type { Trainer, TrainerSpec } from '../../src/train/trainer.js'

/** Trainer processes of one experiment unless told otherwise: a core each, and no more than make a difference. */
const DEFAULT_WORKERS = Math.min(4, availableParallelism())

/** Several trainer processes as one trainer: work goes to whichever is idle, in the order it came. */
export async function openTrainerPool(spec: TrainerSpec, workers = DEFAULT_WORKERS): Promise<Trainer> {
  const entry = entryUrl('node/model/trainer-main.js')
  const spawn = () => spawnTrainer({ entry, spec, clock: systemClock, log: silentLogger })
  const trainers = await Promise.all(Array.from({ length: workers }, spawn))
  const idle = [...trainers]
  const waiting: ((trainer: Trainer) => void)[] = []
  async function give<T>(work: (trainer: Trainer) => Promise<T>): Promise<T> {
    const trainer = idle.pop() ?? (await new Promise<Trainer>((resolve) => waiting.push(resolve)))
    try {
      return await work(trainer)
    } finally {
      const next = waiting.shift()
      if (next === undefined) idle.push(trainer as (typeof trainers)[number])
      else next(trainer)
    }
  }
  return {
    description: trainers[0]!.description,
    step: (parameters, batch, options) => give((trainer) => trainer.step(parameters, batch, options)),
    evaluate: (parameters, batch, options) => give((trainer) => trainer.evaluate(parameters, batch, options)),
    async close() {
      await Promise.all(trainers.map((trainer) => trainer.close()))
    }
  }
}
