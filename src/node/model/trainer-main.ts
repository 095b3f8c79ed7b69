import '../../base/polyfill.js'
import { runTrainerProcess } from '../../train/process/serve.js'
import { openLocalTrainer } from './open-trainer.js'

/** Entry file of the trainer child; see train/process/child-trainer.ts for the parent's side. */
await runTrainerProcess(openLocalTrainer)
