import '../base/polyfill.js'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { type Clock, systemClock } from '../base/clock.js'
import { entryUrl } from '../base/entry.js'
import { describeError } from '../base/errors.js'
import { type FederationManifest, federationHash } from '../base/federation.js'
import { type Logger, silentLogger } from '../base/log.js'
import { seededRng } from '../base/rng.js'
import type { Verdict } from '../base/verdict.js'
import { createFileBroadcastLog } from '../checkpoint/file-broadcast-log.js'
import { createFileExchangeLog } from '../checkpoint/file-exchange-log.js'
import { createFileStore } from '../checkpoint/file-store.js'
import type { PeerTable } from '../consensus/peers.js'
import type { Dataset } from '../data/batch.js'
import { type Hello, startHello } from '../gossip/hello.js'
import { createSigner, verifySignature } from '../gossip/libp2p-signature.js'
import { createLibp2pTransport, type Libp2pTransport } from '../gossip/libp2p.js'
import { federationTopics } from '../gossip/topics.js'
import type { PeerId } from '../gossip/transport.js'
import { startStatusServer, type StatusServer } from '../status/server.js'
import type { ParameterSchema } from '../tensor/schema.js'
import { type ChildTrainer, spawnTrainer } from '../train/child-trainer.js'
import { createBroadcastParticipant } from './broadcast-participant.js'
import type { NodeConfig } from './config-schema.js'
import { type DataDir, openDataDir } from './data-dir.js'
import { readDenyList, watchDenyList } from './deny-list.js'
import { startExchangeTasks } from './exchange-tasks.js'
import { type Identity, loadIdentity } from './identity.js'
import { checkModel, readManifest } from './manifest.js'
import { maskOf } from './mask-of.js'
import { createNodeData } from './node-data.js'
import { readNetworkKey } from './network-key.js'
import { loggingObserver, withLocalFiles } from './model-source.js'
import { ownPlan } from './own-plan.js'
import { createParticipant } from './participant.js'
import type { Participant } from './participant-types.js'
import { withPartnerBook } from './partners.js'
import { createRefusalBook, type RefusalBook } from './refusal-book.js'
import { sharedPart } from './shared-part.js'
import { withCommonStart } from './start-from.js'
import { statusOf } from './status-view.js'
import { writeNodeRecord } from './trained.js'
import type { NodeDeps, PeertuneNode } from './types.js'
import { packageVersion } from './version.js'

/** The parts of a node, each made once. */
interface Wiring {
  readonly config: NodeConfig
  readonly manifest: FederationManifest
  readonly federation: string
  readonly identity: Identity
  readonly dataDir: DataDir
  readonly transport: Libp2pTransport
  readonly refusals: RefusalBook
  readonly version: string
  readonly clock: Clock
  readonly log: Logger
}

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

function assemble(wiring: Wiring): PeertuneNode {
  const { config, dataDir, transport, clock, log } = wiring
  const startedAtMs = clock.now()
  const stopping = new AbortController()
  const data = createNodeData(wiring)
  const done = Promise.withResolvers<void>()
  let server: StatusServer | undefined
  let hello: Hello | undefined
  let trainer: ChildTrainer | undefined
  let participant: Participant | undefined
  let opening: Promise<ChildTrainer> | undefined
  let joined: Promise<void> | undefined
  let working: Promise<void> = Promise.resolve()
  let watching: Promise<void> = Promise.resolve()
  let stopped: Promise<void> | undefined

  const status = () =>
    statusOf({
      ...wiring,
      peerId: wiring.identity.peerId,
      addresses: transport.addresses(),
      connected: transport.connected(),
      traffic: transport.traffic,
      bootstrap: transport.bootstrap(),
      hellos: hello?.records() ?? [],
      refusals: wiring.refusals.byPeer(),
      offences: wiring.refusals.offences(),
      trainer: trainer && runningTrainer(trainer),
      participant: participant?.view(),
      data: data.state(),
      stopping: stopping.signal.aborted,
      startedAtMs,
      nowMs: clock.now()
    })

  async function openTrainer(): Promise<ChildTrainer> {
    await checkModel(wiring.manifest, config.model)
    trainer = await startTrainer(wiring)
    return trainer
  }

  async function join(): Promise<void> {
    await transport.start()
    if (config.denyList !== null)
      watching = watchDenyList({ file: config.denyList, onChange: transport.deny, clock, log }, stopping.signal)
    hello = startHello({ transport, card: cardOf(wiring), clock, log })
  }

  /** The data are read while the node makes its way into the network; it trains when both are done. */
  async function work(trainer: ChildTrainer, joined: Promise<void>): Promise<void> {
    const table = () => participant?.view().membership.table()
    const openData: OpenData = async (model) => (await Promise.all([data.open(model, stopping.signal), joined]))[0]
    participant = await openParticipant(wiring, trainer, { openData, table }).catch((error) => {
      if (!stopping.signal.aborted) throw error
      return undefined
    })
    await participant?.run(stopping.signal)
  }

  async function close(): Promise<void> {
    stopping.abort(new Error('the node stops'))
    await working.catch(() => undefined)
    await opening?.catch(() => undefined)
    await joined?.catch(() => undefined)
    await watching
    hello?.stop()
    await trainer?.close()
    data.close()
    await transport.stop()
    await server?.close()
    await dataDir.release()
  }

  const stop = (reason = 'asked to'): Promise<void> => {
    stopped ??= close().then(
      () => log.info({ reason }, 'stopped'),
      (error) => log.error({ error: describeError(error) }, 'could not stop cleanly')
    )
    return stopped
  }

  return {
    status,
    done: done.promise,
    async start() {
      server = await startStatusServer({ ...config.http, snapshot: status, log })
      opening = openTrainer()
      // A model that cannot be trained is refused here: nobody has heard of this node, and nothing is written.
      const ready = await opening
      if (stopping.signal.aborted) return
      await writeNodeRecord(dataDir.root, wiring)
      joined = join()
      working = work(ready, joined)
      working.catch(() => undefined)
      await joined
      if (stopping.signal.aborted) return
      await dataDir.announce({ pid: process.pid, url: server.url, addresses: transport.addresses() })
      working.then(done.resolve, (error) => {
        void stop('training cannot go on').then(() => done.reject(error))
      })
    },
    async stop(reason) {
      await stop(reason)
      done.resolve()
    }
  }
}

const cardOf = ({ federation, version, config }: Wiring) => ({ federation, version, name: config.label })

async function startTrainer({ config, manifest, clock, log }: Wiring): Promise<ChildTrainer> {
  const { model: modelPath, device, threads, memory, arithmetic } = config
  const { task } = manifest
  const peft = ownPlan(manifest, config.slots)
  const trainer = await spawnTrainer({
    entry: entryUrl('node/trainer-main.js'),
    spec: { modelPath, task, peft, device, threads, arithmetic, ...maskOf(config), ...memoryBounds(memory) },
    clock,
    log,
    ...(memory.limitMb !== null && { memoryLimitMb: memory.limitMb })
  })
  const { used, reason } = trainer.description.device
  log.info({ device: used, reason, parameters: trainer.description.schema.size }, 'the trainer is ready')
  return trainer
}

const runningTrainer = ({ description, pid, restarts, float32Cosine }: ChildTrainer) => ({
  ...description,
  pid,
  restarts,
  float32Cosine
})

const memoryBounds = ({ activationsMb, microBatch, activationCacheMb }: NodeConfig['memory']) => ({
  activationCacheMb,
  ...(activationsMb !== null && { memoryMb: activationsMb }),
  ...(microBatch !== null && { microBatch })
})

/** The node's data, once it is known what model they are for. */
type OpenData = (model: ChildTrainer['description']) => Promise<Dataset>

async function openParticipant(
  wiring: Wiring,
  child: ChildTrainer,
  { openData, table }: { readonly openData: OpenData; readonly table: () => PeerTable | undefined }
): Promise<Participant> {
  const { config, manifest, dataDir, refusals, version, log } = wiring
  const trainer = await withCommonStart(child, manifest, config)
  const dataset = await openData(trainer.description)
  const { schema } = trainer.description
  const logOf = {
    directory: dataDir.checkpoints,
    identity: {
      federationHash: wiring.federation,
      schemaHash: schema.hash,
      size: sharedPart(manifest, schema).schema.size
    },
    log
  }
  const parts = {
    ...wiring,
    trainer,
    dataset,
    store: createFileStore({ directory: dataDir.checkpoints, log }),
    software: `peertune/${version}`,
    onVerdict: (peer: PeerId, verdict: Verdict) => refusals.note(peer, verdict),
    onDone: (parameters: Float32Array) => saveAdapter(wiring, trainer.description.schema, parameters)
  }
  if (manifest.mixing.mode !== 'broadcast')
    return createParticipant({
      ...parts,
      store: withPartnerBook(parts.store, { dataDir: dataDir.root, table }),
      exchangeLog: createFileExchangeLog(logOf),
      exchangeTasks: (init) => startExchangeTasks(entryUrl('node/exchange-tasks-main.js'), init)
    })
  return createBroadcastParticipant({
    ...parts,
    broadcastLog: createFileBroadcastLog(logOf),
    sign: createSigner(wiring.identity.key),
    verify: verifySignature
  })
}

/** The trained adapter as a Hugging Face PEFT folder in the data directory. */
async function saveAdapter(
  { config, manifest, dataDir, log }: Wiring,
  schema: ParameterSchema,
  parameters: Float32Array
): Promise<void> {
  const folder = join(dataDir.root, 'adapter')
  await mkdir(folder, { recursive: true, mode: 0o700 })
  const { task } = manifest
  const peft = ownPlan(manifest, config.slots)
  // Brings the runtime along, which a node needs for nothing else: a tenth of the time of a start.
  const { exportAdapter } = await import('./export-adapter.js')
  await exportAdapter(folder, { modelPath: config.model, task, peft, ...maskOf(config), schema, parameters })
  log.info({ folder }, 'wrote the adapter')
}
