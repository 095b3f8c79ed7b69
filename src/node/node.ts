import '../base/polyfill.js'
import { join } from 'node:path'
import { systemClock } from '../base/clock.js'
import { describeError } from '../base/errors.js'
import { federationHash } from '../base/federation.js'
import { silentLogger } from '../base/log.js'
import { seededRng } from '../base/rng.js'
import { type Hello, startHello } from '../gossip/hello.js'
import { createLibp2pTransport } from '../gossip/libp2p.js'
import { federationTopics } from '../gossip/topics.js'
import { startStatusServer, type StatusServer } from '../status/server.js'
import type { ChildTrainer } from '../train/child-trainer.js'
import type { NodeConfig } from './config-schema.js'
import { openDataDir } from './data-dir.js'
import { readDenyList, watchDenyList } from './deny-list.js'
import { loadIdentity } from './identity.js'
import { checkModel, readManifest } from './manifest.js'
import { createNodeData } from './node-data.js'
import { readNetworkKey } from './network-key.js'
import { loggingObserver, withLocalFiles } from './model-source.js'
import { type OpenData, openParticipant } from './open-participant.js'
import type { Participant } from './participant-types.js'
import { createRefusalBook } from './refusal-book.js'
import { runningTrainer, startTrainer } from './start-trainer.js'
import { statusOf } from './status-view.js'
import { writeNodeRecord } from './trained.js'
import type { NodeDeps, PeertuneNode } from './types.js'
import { packageVersion } from './version.js'
import type { Wiring } from './wiring.js'

/**
 * The composition root: takes the data directory, wires a node and gives it back ready to start. Throws `config/*` for
 * everything the operator can put right before anything runs.
 */
export async function createNode(given: NodeConfig, deps: NodeDeps = {}): Promise<PeertuneNode> {
  const { log = silentLogger, clock = systemClock, env = process.env } = deps
  const manifest = await readManifest(given.federation)
  const config = await withLocalFiles(given, { env, observer: loggingObserver(log) })
  const networkKey = config.networkKey === null ? undefined : await readNetworkKey(config.networkKey)
  const denied = config.denyList === null ? undefined : await readDenyList(config.denyList)
  const dataDir = await openDataDir(config.dataDir)
  try {
    const identity = await loadIdentity(dataDir.identity)
    const federation = federationHash(manifest)
    const version = packageVersion()
    const transport = createLibp2pTransport({
      identity: identity.key,
      listen: config.listen,
      bootstrap: config.bootstrap,
      ...(networkKey === undefined ? {} : { networkKey }),
      topics: federationTopics(federation),
      version,
      knownPeersPath: join(dataDir.root, 'peers.json'),
      clock,
      rng: seededRng(config.training.seed, identity.peerId, 'transport'),
      log,
      onOffence: (peer, verdict, forMs) =>
        forMs === undefined ? refusals.note(peer, verdict) : refusals.banned(peer, verdict, forMs)
    })
    if (denied !== undefined) transport.deny(denied)
    const refusals = createRefusalBook({ ban: transport.ban, now: clock.now })
    return assemble({ config, manifest, federation, identity, dataDir, transport, refusals, version, clock, log })
  } catch (error) {
    await dataDir.release()
    throw error
  }
}

/** What there is of a running node; each part from its moment on. */
interface Life {
  readonly startedAtMs: number
  readonly stopping: AbortController
  readonly data: ReturnType<typeof createNodeData>
  server: StatusServer | undefined
  opening: Promise<ChildTrainer> | undefined
  trainer: ChildTrainer | undefined
  joined: Promise<void> | undefined
  hello: Hello | undefined
  participant: Participant | undefined
  working: Promise<void>
  watching: Promise<void>
}

const beforeStart = (wiring: Wiring): Life => ({
  startedAtMs: wiring.clock.now(),
  stopping: new AbortController(),
  data: createNodeData(wiring),
  server: undefined,
  opening: undefined,
  trainer: undefined,
  joined: undefined,
  hello: undefined,
  participant: undefined,
  working: Promise.resolve(),
  watching: Promise.resolve()
})

function assemble(wiring: Wiring): PeertuneNode {
  const { config, dataDir, transport, log } = wiring
  const life = beforeStart(wiring)
  const isStopping = () => life.stopping.signal.aborted
  const done = Promise.withResolvers<void>()
  let stopped: Promise<void> | undefined
  const status = () => statusNow(wiring, life)
  const stop = (reason = 'asked to'): Promise<void> => {
    stopped ??= close(wiring, life).then(
      () => log.info({ reason }, 'stopped'),
      (error) => log.error({ error: describeError(error) }, 'could not stop cleanly')
    )
    return stopped
  }
  return {
    status,
    done: done.promise,
    async start() {
      const server = await startStatusServer({ ...config.http, snapshot: status, log })
      life.server = server
      // A model that cannot be trained is refused here: nobody has heard of this node, and nothing is written.
      life.opening = openTrainer(wiring, life)
      const trainer = await life.opening
      if (isStopping()) return
      await writeNodeRecord(dataDir.root, wiring)
      life.joined = joinNetwork(wiring, life)
      life.working = work(wiring, life, { trainer, joined: life.joined })
      life.working.catch(() => undefined)
      await life.joined
      if (isStopping()) return
      await dataDir.announce({ pid: process.pid, url: server.url, addresses: transport.addresses() })
      life.working.then(done.resolve, (error) => {
        void stop('training cannot go on').then(() => done.reject(error))
      })
    },
    async stop(reason) {
      await stop(reason)
      done.resolve()
    }
  }
}

const statusNow = (wiring: Wiring, { hello, trainer, participant, data, stopping, startedAtMs }: Life) =>
  statusOf({
    ...wiring,
    peerId: wiring.identity.peerId,
    addresses: wiring.transport.addresses(),
    connected: wiring.transport.connected(),
    traffic: wiring.transport.traffic,
    bootstrap: wiring.transport.bootstrap(),
    hellos: hello?.records() ?? [],
    refusals: wiring.refusals.byPeer(),
    offences: wiring.refusals.offences(),
    trainer: trainer && runningTrainer(trainer),
    participant: participant?.view(),
    data: data.state(),
    stopping: stopping.signal.aborted,
    startedAtMs,
    nowMs: wiring.clock.now()
  })

async function openTrainer(wiring: Wiring, life: Life): Promise<ChildTrainer> {
  await checkModel(wiring.manifest, wiring.config.model)
  life.trainer = await startTrainer(wiring)
  return life.trainer
}

async function joinNetwork(wiring: Wiring, life: Life): Promise<void> {
  const { config, transport, clock, log } = wiring
  await transport.start()
  if (config.denyList !== null) {
    const watched = { file: config.denyList, onChange: transport.deny, clock, log }
    life.watching = watchDenyList(watched, life.stopping.signal)
  }
  life.hello = startHello({ transport, card: cardOf(wiring), clock, log })
}

/** The data are read while the node makes its way into the network; it trains when both are done. */
async function work(
  wiring: Wiring,
  life: Life,
  { trainer, joined }: { readonly trainer: ChildTrainer; readonly joined: Promise<void> }
): Promise<void> {
  const { signal } = life.stopping
  const table = () => life.participant?.view().membership.table()
  const openData: OpenData = async (model) => (await Promise.all([life.data.open(model, signal), joined]))[0]
  life.participant = await openParticipant(wiring, trainer, { openData, table }).catch((error) => {
    if (!signal.aborted) throw error
    return undefined
  })
  await life.participant?.run(signal)
}

/** Ends whatever there is by now. */
async function close({ transport, dataDir }: Wiring, life: Life): Promise<void> {
  life.stopping.abort(new Error('the node stops'))
  await life.working.catch(() => undefined)
  await life.opening?.catch(() => undefined)
  await life.joined?.catch(() => undefined)
  await life.watching
  life.hello?.stop()
  await life.trainer?.close()
  life.data.close()
  await transport.stop()
  await life.server?.close()
  await dataDir.release()
}

const cardOf = ({ federation, version, config }: Wiring) => ({ federation, version, name: config.label })
