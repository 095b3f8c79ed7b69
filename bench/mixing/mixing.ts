import { systemClock } from '../../src/base/clock.js'
import { PeertuneError } from '../../src/base/errors.js'
import type { Rng } from '../../src/base/rng.js'
import { seededRng } from '../../src/base/rng.js'
import type { CodecName } from '../../src/codec/codec.js'
import { codecByName } from '../../src/codec/registry.js'
import { createMemoryNetwork, type MemoryNetwork } from '../../src/gossip/memory/memory.js'
import { createExchangeDriver } from '../../src/node/pairwise/driver.js'
import type { ExchangeDriver } from '../../src/node/participant/exchange-types.js'
import { addInto, distance2, weightedMean } from '../../src/tensor/linear.js'

/** Bytes per parameter a codec may cost; int8: one byte, and two of scale for each block of 256. */
const BYTES_BOUND = { float32: 4, int8: 1 + 2 / 256 } as const

type MeasuredCodec = keyof typeof BYTES_BOUND & CodecName

const PEERS = 16
/** Elements per peer: two blocks and a part of one. */
const SIZE = 600
/** Exchanges per peer over which contraction is measured; more would measure the codec's floor. */
const CONTRACTION_EXCHANGES = 6
const DRIFT_EXCHANGES = 10_000

interface Peer {
  readonly name: string
  readonly weight: number
  readonly live: Float32Array
  readonly driver: ExchangeDriver
}

const randomVector = (size: number, scale: number, rng: Rng): Float32Array =>
  Float32Array.from({ length: size }, () => scale * (rng.uniform() - 0.5))

/** Peers with one common start and a private distance from it, connected in memory. */
async function createPeers(codec: CodecName, weights: readonly number[]): Promise<[MemoryNetwork, readonly Peer[]]> {
  const rng = seededRng('bench', 'mixing', codec)
  const network = createMemoryNetwork({ seed: 'bench', clock: systemClock })
  const reference = randomVector(SIZE, 2, rng)
  const peers: Peer[] = []
  for (const [i, weight] of weights.entries()) {
    const name = `peer-${i}`
    const transport = network.join({ name })
    await transport.start()
    const away = randomVector(SIZE, 1, rng)
    const live = reference.map((value, k) => value + away[k]!)
    const config = {
      self: name,
      federation: 'f'.repeat(64),
      schema: { hash: '0'.repeat(64), size: SIZE },
      reference,
      codec: codecByName(codec),
      gamma: 1,
      weight,
      incarnation: name
    }
    const holder = { parameters: () => live, add: (increment: Float32Array) => addInto(increment, live) }
    const components = { transport, clock: systemClock, holder, phase: () => 'training' as const }
    const driver = createExchangeDriver(components, { config, helloBurst: Number.MAX_SAFE_INTEGER })
    driver.start()
    peers.push({ name, weight, live, driver })
  }
  await network.connectAll()
  return [network, peers]
}

const meanOf = (peers: readonly Peer[]): Float64Array =>
  weightedMean(
    peers.map((peer) => peer.live),
    peers.map((peer) => peer.weight)
  )

function spreadOf(peers: readonly Peer[]): number {
  const mean = Float32Array.from(meanOf(peers))
  return Math.hypot(...peers.map((peer) => distance2(peer.live, mean)))
}

/** One attempt between a random ordered pair. */
async function attempt(peers: readonly Peer[], rng: Rng): Promise<string> {
  const [one, other] = rng.shuffle(peers)
  return (await one!.driver.exchangeWith(other!.name)).kind
}

/**
 * The factor by which the distance from the mean shrinks for every exchange a peer takes part in. In expectation one
 * exchange of a random pair takes 1 / (n - 1) of the squared error, and n / 2 of them give each peer one.
 */
async function contraction(codec: CodecName) {
  const [, peers] = await createPeers(
    codec,
    Array.from({ length: PEERS }, () => 100)
  )
  const rng = seededRng('bench', 'pairs')
  const before = spreadOf(peers)
  for (let i = 0; i < (CONTRACTION_EXCHANGES * PEERS) / 2; i++) await attempt(peers, rng)
  const measured = (spreadOf(peers) / before) ** (1 / CONTRACTION_EXCHANGES)
  return { measured, expected: Math.sqrt((1 - 1 / (PEERS - 1)) ** (PEERS / 2)) }
}

function bytesPerParameter(codec: MeasuredCodec) {
  const count = 2 ** 20
  const rng = seededRng('bench', 'bytes')
  const bytes = codecByName(codec).encode(randomVector(count, 1, rng), rng).length
  return { measured: bytes / count, bound: BYTES_BOUND[codec] }
}

/** How far the weighted mean has moved, relative to its norm, after many exchanges of which one in five is cut. */
async function drift(codec: CodecName, exchanges: number) {
  const rng = seededRng('bench', 'drift')
  const [network, peers] = await createPeers(
    codec,
    Array.from({ length: PEERS }, () => 1 + rng.integer(1000))
  )
  const before = meanOf(peers)
  const outcomes: Record<string, number> = {}
  // Every direction of an exchange carries three frames, so each message boundary is hit.
  network.setFaults({ channelCut: { probability: 0.2, withinFrames: 3 } })
  for (let i = 0; i < exchanges; i++) {
    const kind = await attempt(peers, rng)
    outcomes[kind] = (outcomes[kind] ?? 0) + 1
  }
  network.setFaults({})
  for (const { driver } of peers)
    while (driver.inDoubt().length > 0) await driver.exchangeWith(driver.inDoubt()[0] as string)
  const after = meanOf(peers)
  const ratio = Math.hypot(...after.map((value, i) => value - before[i]!)) / Math.hypot(...before)
  return { exchanges, outcomes, ratio }
}

function exchangesFrom(args: readonly string[]): number {
  const at = args.indexOf('--exchanges')
  const given = at < 0 ? DRIFT_EXCHANGES : Number(args[at + 1])
  if (Number.isSafeInteger(given) && given > 0) return given
  throw new PeertuneError('config/bad-flag', `--exchanges needs a positive whole number, got ${args[at + 1]}`)
}

/** `npm run bench -- mixing [--exchanges N] [--json]`. */
export async function run(args: readonly string[]): Promise<object> {
  const exchanges = exchangesFrom(args)
  const codecs: Record<string, object> = {}
  for (const name of Object.keys(BYTES_BOUND) as MeasuredCodec[]) {
    const result = {
      contractionPerExchange: await contraction(name),
      bytesPerParameter: bytesPerParameter(name),
      drift: await drift(name, exchanges)
    }
    codecs[name] = result
    const { contractionPerExchange: shrink, bytesPerParameter: bytes, drift: moved } = result
    console.log(
      `${name}: disagreement x ${shrink.measured.toFixed(3)} per exchange (expected ${shrink.expected.toFixed(3)}), ` +
        `${bytes.measured.toFixed(4)} B/parameter (bound ${bytes.bound.toFixed(4)}), ` +
        `mean moved by ${moved.ratio.toExponential(1)} of itself in ${exchanges} exchanges with cuts`
    )
  }
  return { peers: PEERS, codecs }
}
