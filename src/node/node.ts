import '../base/polyfill.js'
import { join } from 'node:path'
import { systemClock } from '../base/clock.js'
import { describeError } from '../base/errors.js'
import { federationHash } from '../base/federation.js'
import { silentLogger } from '../base/log.js'
import { seededRng } from '../base/rng.js'
import { bytesWanted } from '../checkpoint/file-store.js'
import { type Hello, startHello } from '../gossip/hello.js'
import { createLibp2pTransport } from '../gossip/libp2p/libp2p.js'
import { checkListen } from '../gossip/libp2p/listen.js'
import { federationTopics } from '../gossip/topics.js'
import { startStatusServer, type StatusServer } from '../status/server.js'
import type { Status } from '../status/snapshot.js'
import type { ChildTrainer } from '../train/process/child-trainer.js'
import type { NodeConfig } from './config/schema.js'
import { openDataDir } from './host/data-dir.js'
import { requireRoom } from './host/disk-room.js'
import { readDenyList, watchDenyList } from './host/deny-list.js'
import { loadIdentity } from './host/identity.js'
import { checkModel, readManifest } from './config/manifest.js'
import { createNodeData } from './node-data.js'
import { readNetworkKey } from './host/network-key.js'
import { loggingObserver, withLocalFiles } from './config/model-source.js'
import { type OpenData, openParticipant } from './open-participant.js'
import type { Participant } from './participant/types.js'
import { createRefusalBook } from './peers/refusal-book.js'
import { runningTrainer, startTrainer } from './start-trainer.js'
import { statusOf } from './node-status.js'
import { writeNodeRecord } from './trained/trained.js'
import type { NodeDeps, PeertuneNode } from './types.js'
import { packageVersion } from './host/version.js'
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

/** Milliseconds for the trainer of a node whose start failed: nobody will use the step that it may be at. */
const FAILED_START_GRACE_MS = 250

/** What there is of a running node; each part from its moment on. */
interface Life {
  readonly startedAtMs: number
  readonly stopping: AbortController
  readonly data: ReturnType<typeof createNodeData>
  /** Settled once no piece of a start is under way any more. */
  starting: Promise<void>
  server: StatusServer | undefined
  trainer: ChildTrainer | undefined
  hello: Hello | undefined
  participant: Participant | undefined
  working: Promise<void>
  watching: Promise<void>
}

const beforeStart = (wiring: Wiring): Life => ({
  startedAtMs: wiring.clock.now(),
  stopping: new AbortController(),
  data: createNodeData(wiring),
  starting: Promise.resolve(),
  server: undefined,
  trainer: undefined,
  hello: undefined,
  participant: undefined,
  working: Promise.resolve(),
  watching: Promise.resolve()
})

function assemble(wiring: Wiring): PeertuneNode {
  const { log } = wiring
  const life = beforeStart(wiring)
  const { signal } = life.stopping
  const done = Promise.withResolvers<void>()
  let stopped: Promise<void> | undefined
  const status = () => statusNow(wiring, life)
  const stop = (reason = 'asked to', graceMs?: number): Promise<void> => {
    stopped ??= close(wiring, life, graceMs).then(
      () => log.info({ reason }, 'stopped'),
      (error) => log.error({ error: describeError(error) }, 'could not stop cleanly')
    )
    return stopped
  }
  return {
    status,
    done: done.promise,
    async start() {
      life.starting = bringUp(wiring, life, status)
      try {
        await life.starting
      } catch (error) {
        if (error === signal.reason) return
        await stop('start failed', FAILED_START_GRACE_MS)
        throw error
      }
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
    participant: participant?.report(),
    data: data.state(),
    stopping: stopping.signal.aborted,
    startedAtMs,
    nowMs: wiring.clock.now()
  })

/**
 * Opens one piece after another and leaves each in `life`. Rejects with the reason of the stop where one came meanwhile:
 * `close` waits for the piece under way and then ends all there are.
 */
async function bringUp(wiring: Wiring, life: Life, snapshot: () => Status): Promise<void> {
  const { config, manifest, dataDir, transport, log } = wiring
  const unlessStopped = async <T>(piece: () => Promise<T>): Promise<T> => {
    life.stopping.signal.throwIfAborted()
    return piece()
  }
  const server = await unlessStopped(() => startStatusServer({ ...config.http, snapshot, log }))
  life.server = server
  // Behind the status server, which takes a port, too; taking an address is not joining: nobody is dialled.
  await unlessStopped(() => checkListen(config.listen))
  const announce = () => dataDir.announce({ pid: process.pid, url: server.url, addresses: transport.addresses() })
  // A large model takes minutes: whoever asks is to find the page meanwhile.
  await unlessStopped(announce)
  // A model that cannot be trained is refused here: nobody has heard of this node, and only the announcement is written.
  await unlessStopped(() => checkModel(manifest, config.model))
  const trainer = await unlessStopped(() => startTrainer(wiring))
  life.trainer = trainer
  await unlessStopped(() => writeNodeRecord(dataDir.root, wiring))
  await unlessStopped(() => checkDisk(wiring, trainer))
  await unlessStopped(() => {
    const joined = joinNetwork(wiring, life)
    life.working = work(wiring, life, { trainer, joined })
    life.working.catch(() => undefined)
    return joined
  })
  await unlessStopped(announce)
}

/** A disk that the third checkpoint would not fit on is better known of now. */
async function checkDisk({ dataDir }: Wiring, { description }: ChildTrainer): Promise<void> {
  const bytes = await bytesWanted(dataDir.checkpoints, description.schema.size)
  await requireRoom(dataDir.root, bytes, 'checkpoints')
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
  const table = () => life.participant?.report().membership.table()
  const openData: OpenData = async (model) => (await Promise.all([life.data.open(model, signal), joined]))[0]
  life.participant = await openParticipant(wiring, trainer, { openData, table }).catch((error) => {
    if (!signal.aborted) throw error
    return undefined
  })
  await life.participant?.run(signal)
}

/** Ends whatever there is by now; a step under way may take `graceMs` more. */
async function close({ transport, dataDir }: Wiring, life: Life, graceMs?: number): Promise<void> {
  life.stopping.abort(new Error('the node stops'))
  await life.starting.catch(() => undefined)
  await life.working.catch(() => undefined)
  await life.watching
  life.hello?.stop()
  await life.trainer?.close(graceMs)
  life.data.close()
  await transport.stop()
  await life.server?.close()
  await dataDir.release()
}

const cardOf = ({ federation, version, config }: Wiring) => ({ federation, version, name: config.label })
