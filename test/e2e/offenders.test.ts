import { afterEach, describe, expect, it } from 'vitest'
import { systemClock } from '../../src/base/clock.js'
import { silentLogger } from '../../src/base/log.js'
import { createLibp2pTransport } from '../../src/gossip/libp2p/libp2p.js'
import { createIdentity } from '../../src/gossip/libp2p/identity.js'
import { seededRng } from '../../src/base/rng.js'
import { EXCHANGE_PROTOCOL, federationTopics } from '../../src/gossip/topics.js'
import type { Transport } from '../../src/gossip/transport.js'
import { resolveConfig } from '../../src/node/config/config.js'
import { readRunFile } from '../../src/node/host/data-dir.js'
import { modelSha256 } from '../../src/node/config/model-hash.js'
import { createNode } from '../../src/node/node.js'
import { BAN_MS, REJECTS_BEFORE_BAN } from '../../src/node/peers/refusal-book.js'
import type { PeertuneNode } from '../../src/node/types.js'
import type { PeerStatus, Status } from '../../src/status/snapshot.js'
import { createManifest } from '../../src/node/config/manifest.js'
import { daemonFolder, LETTERS, MODEL } from './daemon-folder.js'

const { writeFederation, writePeer } = daemonFolder()
const closers: (() => Promise<void>)[] = []
afterEach(async () => {
  await Promise.all(closers.splice(0).map((close) => close()))
})

const SETTINGS = { classes: LETTERS, samples: 48, testSamples: 16, steps: 100_000, batchSize: 4 }

const federation = async () =>
  writeFederation(
    createManifest(
      {
        peertune: 1,
        name: 'offended',
        model: { sha256: await modelSha256(MODEL) },
        task: { kind: 'image-classification', labels: LETTERS },
        peft: { method: 'lora', rank: 2, alpha: 4, targets: ['query'], head: ['classifier'], seed: 'e2e' },
        mixing: { localSteps: 2 }
      },
      () => 'manifest'
    )
  )

/** Real time that can be put forward. */
function shiftedClock() {
  let shiftMs = 0
  return {
    ...systemClock,
    now: () => systemClock.now() + shiftMs,
    shift(ms: number) {
      shiftMs += ms
    }
  }
}

async function until<T>(look: () => T | undefined | false | Promise<T | undefined | false>): Promise<T> {
  for (;;) {
    const seen = await look()
    if (seen !== undefined && seen !== false) return seen
    await systemClock.sleep(20)
  }
}

const peerIn = (status: Status, peerId: string): PeerStatus | undefined =>
  status.peers.find((peer) => peer.peerId === peerId)

/** Speaks the protocols of the transport and none of the rules above them. */
async function offender(node: PeertuneNode): Promise<Transport> {
  const identity = await createIdentity()
  const transport = createLibp2pTransport({
    identity,
    listen: ['/ip4/127.0.0.1/tcp/0'],
    topics: federationTopics(node.status().federation.hash),
    version: '0.0.0-test',
    clock: systemClock,
    rng: seededRng('offender'),
    log: silentLogger,
    limits: { targetPeers: 0 }
  })
  closers.push(() => transport.stop())
  await transport.start()
  return transport
}

const sendGarbage = async (from: Transport, to: string): Promise<void> => {
  const channel = await from.open(to, EXCHANGE_PROTOCOL)
  await channel.send(Uint8Array.from({ length: 100 }, (_, i) => (i * 89) % 256))
  await channel.receive().catch(() => undefined)
}

describe('a peer that sends what nobody may send', () => {
  it('is named with the reason, hung up on and not let in, until its ban ends; an honest peer mixes on', async () => {
    const file = await federation()
    const clock = shiftedClock()
    const start = async (name: string, bootstrap: readonly string[]) => {
      const { config: path, dataDir } = await writePeer(name, file, SETTINGS)
      const { config } = await resolveConfig(path, { bootstrap, httpPort: '0' })
      const node = await createNode(config, name === 'victim' ? { clock } : {})
      closers.push(() => node.stop())
      node.done.catch(() => undefined)
      await node.start()
      return { node, url: (await readRunFile(dataDir))!.url }
    }
    const { node: victim, url } = await start('victim', [])
    const address = victim.status().addresses[0]!
    const { node: honest } = await start('honest', [address])
    const { peerId: honestId } = honest.status()
    const { peerId: victimId } = victim.status()
    const exchangesWithHonest = () => peerIn(victim.status(), honestId)?.exchanges ?? 0
    await until(() => exchangesWithHonest() >= 2)

    const mallory = await offender(victim)
    expect(await mallory.connect(address)).toMatchObject({ ok: true })
    for (let n = 1; n < REJECTS_BEFORE_BAN; n++) await sendGarbage(mallory, victimId)
    expect(peerIn(victim.status(), mallory.self)).toMatchObject({ connected: true, refusals: REJECTS_BEFORE_BAN - 1 })
    await sendGarbage(mallory, victimId).catch(() => undefined)

    await until(() => !mallory.connected().includes(victimId))
    expect(await mallory.connect(address)).toMatchObject({ ok: false })
    await until(() => !mallory.connected().includes(victimId))
    const told = (await (await fetch(new URL('status', url))).json()) as Status
    expect(peerIn(told, mallory.self)).toMatchObject({
      connected: false,
      refusals: REJECTS_BEFORE_BAN,
      refusedFor: { 'codec/malformed': REJECTS_BEFORE_BAN },
      offence: { code: 'codec/malformed' }
    })
    const { bannedUntilMs, atMs } = peerIn(told, mallory.self)!.offence!
    expect(bannedUntilMs! - atMs).toBe(BAN_MS)
    const metrics = await (await fetch(new URL('metrics', url))).text()
    const series = (name: string) => metrics.split('\n').filter((line) => line.startsWith(`${name}{`))
    expect(series('peertune_peer_banned')).toEqual([
      `peertune_peer_banned{peer="${mallory.self}",reason="codec/malformed"} 1`
    ])
    expect(series('peertune_peer_refusals_by_reason_total')).toContain(
      `peertune_peer_refusals_by_reason_total{peer="${mallory.self}",reason="codec/malformed"} ${REJECTS_BEFORE_BAN}`
    )

    const before = exchangesWithHonest()
    await until(() => exchangesWithHonest() >= before + 2)
    expect(peerIn(victim.status(), honestId)).toMatchObject({ connected: true })
    expect(peerIn(victim.status(), honestId)).not.toHaveProperty('offence')

    clock.shift(BAN_MS - 60_000)
    expect(await mallory.connect(address)).toMatchObject({ ok: false })
    clock.shift(60_001)
    expect(await until(async () => (await mallory.connect(address)).ok)).toBe(true)
    const after = peerIn(victim.status(), mallory.self)!
    expect(after).toMatchObject({ connected: true, refusals: REJECTS_BEFORE_BAN })
    expect(after.offence).not.toHaveProperty('bannedUntilMs')
  }, 120_000)
})
