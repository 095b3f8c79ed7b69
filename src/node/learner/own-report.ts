import type { Checkpointer } from './checkpointer.js'
import type { Learner } from './learner.js'
import type { ParticipantReport } from '../participant/types.js'

/** What a participant says of itself, whichever way it meets the others. */
export const ownReport = (
  { progress }: Learner,
  checkpointer: Checkpointer,
  evaluation: ParticipantReport['evaluation']
): Pick<ParticipantReport, 'rounds' | 'loss' | 'stepsPerSecond' | 'evaluation' | 'saved' | 'bytesBefore'> => ({
  rounds: progress.rounds(),
  loss: progress.loss(),
  stepsPerSecond: progress.stepsPerSecond(),
  evaluation,
  saved: checkpointer.saved(),
  bytesBefore: checkpointer.bytesBefore()
})
