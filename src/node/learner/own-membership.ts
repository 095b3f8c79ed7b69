import { createMembership, type Membership, type OwnNews } from '../peers/membership.js'
import type { ParticipantParts } from '../participant/types.js'
import type { Progress } from './progress.js'

/** The membership of a participant: it announces how far its learning has come. */
export function createOwnMembership(parts: ParticipantParts, progress: Progress): Membership {
  const { transport, federation, clock, log, onVerdict } = parts
  return createMembership({ transport, federation, clock, log, onVerdict, news: () => newsOf(parts, progress) })
}

function newsOf({ transport, config, dataset, software }: ParticipantParts, progress: Progress): OwnNews {
  const { step, phase, exchanges } = progress.rounds()
  const { smoothed } = progress.loss()
  return {
    step,
    phase,
    exchanges,
    samples: dataset.size,
    software,
    ...transport.traffic(),
    ...(smoothed === undefined ? {} : { loss: smoothed }),
    ...(config.label === '' ? {} : { label: config.label })
  }
}
