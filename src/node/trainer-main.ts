import '../base/polyfill.js'
import { runTrainerProcess } from '../train/serve.js'
import { openLocalTrainer } from './open-trainer.js'

/** Entry file of the trainer child; see train/child-trainer.ts for the parent's side. */
await runTrainerProcess(openLocalTrainer)
