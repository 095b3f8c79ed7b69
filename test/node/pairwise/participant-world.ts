import { systemClock } from '../../../src/base/clock.js'
import { federationHash } from '../../../src/base/federation.js'
import { silentLogger } from '../../../src/base/log.js'
import { createMemoryStore } from '../../../src/checkpoint/memory-store.js'
import type { Batch } from '../../../src/data/batches/batch.js'
import type { MemoryNetwork } from '../../../src/gossip/memory/memory.js'
import { announceTopic } from '../../../src/gossip/topics.js'
import { createParticipant } from '../../../src/node/pairwise/participant.js'
import type { Participant, ParticipantParts } from '../../../src/node/participant/types.js'

/** What a trainer is given that looks at no data. */
export const BATCH: Batch = { inputs: {}, labels: { shape: [1], data: new Int32Array(1) } }

export const training = (steps: number, learningRate = 0.05): ParticipantParts['config'] => ({
  label: '',
  checkpointEvery: 3,
  training: {
    steps,
    batchSize: 1,
    learningRate,
    schedule: 'cosine',
    warmupSteps: 0,
    weightDecay: 0,
    beta1: 0.9,
    beta2: 0.999,
    epsilon: 1e-8,
    seed: 'test'
  }
})

/** What makes one participant another than the next; the rest is what `joinAs` has. */
export type OwnParts = Pick<ParticipantParts, 'manifest' | 'trainer' | 'dataset' | 'config'> & Partial<ParticipantParts>

/** A participant on the in-memory network, with a store of its own unless one is given. */
export async function joinAs(network: MemoryNetwork, name: string, parts: OwnParts) {
  const federation = federationHash(parts.manifest)
  const transport = network.join({ name, topics: [announceTopic(federation)] } as never)
  await transport.start()
  const { store = createMemoryStore() } = parts
  const verdicts: string[] = []
  let final: Float32Array | undefined
  const participant = await createParticipant({
    federation,
    transport,
    store,
    software: 'peertune/test',
    clock: systemClock,
    log: silentLogger,
    onVerdict: (_, verdict) => verdicts.push('code' in verdict ? verdict.code : ''),
    onDone: async (parameters) => {
      final = parameters.slice()
    },
    ...parts
  })
  return { participant, transport, verdicts, store, final: () => final }
}

/** The time-out of the test is the bound. */
export async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await systemClock.sleep(5)
}

type Peer = { readonly participant: Participant }

const isDone = ({ participant }: Peer): boolean =>
  participant.report().rounds.phase === 'done' && participant.report().evaluation !== undefined

/** All live until `condition` holds, every one of them being done unless another is given; then all leave. */
export async function live(peers: readonly Peer[], condition = () => peers.every(isDone)): Promise<void> {
  const leave = new AbortController()
  const lives = peers.map(({ participant }) => participant.run(leave.signal))
  await until(condition)
  leave.abort()
  await Promise.all(lives)
}
