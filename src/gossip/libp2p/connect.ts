import { type Multiaddr, multiaddr } from '@multiformats/multiaddr'
import type { Clock } from '../../base/clock.js'
import { describeError } from '../../base/errors.js'
import { shortPeer } from '../channel.js'
import { type ProbeResult, probe } from '../discovery/probe.js'
import type { ConnectFailureCode, ConnectOutcome, PeerId } from '../transport.js'

const EXAMPLE = '/ip4/192.0.2.7/tcp/4001/p2p/12D3KooW…'

type Refusal = Extract<ConnectOutcome, { ok: false }>

const refusal = (address: string, code: ConnectFailureCode, detail: string): Refusal => ({
  ok: false,
  code,
  address,
  detail
})

/** The address, or the sentence that says what is wrong with it. */
export function parseAddress(address: string): Multiaddr | Refusal {
  try {
    return multiaddr(address)
  } catch (error) {
    const hostAndPort = /^([\w.-]+):(\d{1,5})$/.exec(address)
    const guess = hostAndPort === null ? '' : `; did you mean ${suggest(hostAndPort[1] ?? '', hostAndPort[2] ?? '')}?`
    return refusal(
      address,
      'bad-address',
      `"${address}" is not a multiaddr such as ${EXAMPLE} (${describeError(error)})${guess}`
    )
  }
}

const suggest = (host: string, port: string): string => `/${/^[\d.]+$/.test(host) ? 'ip4' : 'dns4'}/${host}/tcp/${port}`

export interface DialFailure {
  readonly address: string
  readonly target: Multiaddr
  readonly error: unknown
  readonly hasNetworkKey: boolean
  readonly timeoutMs: number
  readonly probeTimeoutMs: number
  readonly clock: Clock
}

/** Turns what libp2p threw into a code and a sentence, with a second look at the port where libp2p cannot know. */
export async function explainDialFailure(failure: DialFailure): Promise<Refusal> {
  const { address, target, error, timeoutMs } = failure
  const { code, name } = facts(error)
  const where = place(target)
  if (code === 'ECONNREFUSED') {
    return refusal(address, 'connection-refused', `Nothing listens at ${where}: the connection was refused`)
  }
  if (code === 'ENOTFOUND' || code === 'EAI_AGAIN') {
    return refusal(address, 'unreachable', `The name in ${address} has no address (${code})`)
  }
  if (code !== undefined && NETWORK_CODES.has(code)) {
    return refusal(address, 'unreachable', `No way to ${where} (${code})`)
  }
  if (name === 'NoValidAddressesError') {
    return refusal(address, 'bad-address', `"${address}" names no TCP port; peertune dials addresses like ${EXAMPLE}`)
  }
  if (name === 'InvalidPeerIdError' || name === 'InvalidParametersError') {
    return refusal(address, 'bad-address', `"${address}" cannot be dialled: ${describeError(error)}`)
  }
  if (!HANDSHAKE_ERRORS.has(name)) return refusal(address, 'unreachable', `${where}: ${describeError(error)}`)
  const second = await lookAgain(failure)
  const sentence = SECOND_LOOK[second.kind](failure, where, second)
  return refusal(
    address,
    sentence[0],
    name === 'TimeoutError' && second.kind === 'silent' ? `${sentence[1]} within ${timeoutMs} ms` : sentence[1]
  )
}

const NETWORK_CODES = new Set(['EHOSTUNREACH', 'ENETUNREACH', 'EADDRNOTAVAIL', 'ETIMEDOUT', 'ECONNRESET', 'EPIPE'])
const HANDSHAKE_ERRORS = new Set([
  'EncryptionFailedError',
  'MuxerUnavailableError',
  'TimeoutError',
  'AbortError',
  'UnexpectedEOFError'
])

type Sentence = readonly [ConnectFailureCode, string]

const SECOND_LOOK: Record<ProbeResult['kind'], (failure: DialFailure, where: string, second: ProbeResult) => Sentence> =
  {
    keyed: ({ hasNetworkKey }, where) => [
      'wrong-network-key',
      hasNetworkKey
        ? `The node at ${where} has another network key than this one`
        : `The node at ${where} is in a private network and this node has no network key`
    ],
    libp2p: ({ hasNetworkKey, error }, where) =>
      hasNetworkKey
        ? ['wrong-network-key', `The node at ${where} has no network key and this one has`]
        : ['unreachable', `The node at ${where} broke off the handshake (${describeError(error)})`],
    other: (_failure, where, second) => [
      'not-peertune',
      `What listens at ${where} is no peertune node${second.kind === 'other' && second.said !== '' ? `: it says "${second.said}"` : ''}`
    ],
    closed: (_failure, where) => [
      'unreachable',
      `${where} accepts the connection and closes it at once: the node there is full or refuses this one`
    ],
    silent: (_failure, where) => ['timeout', `${where} accepts the connection and says nothing`],
    unreachable: ({ timeoutMs }, where) => ['timeout', `No answer from ${where} within ${timeoutMs} ms`]
  }

function facts(error: unknown): { code: string | undefined; name: string } {
  const first = error instanceof AggregateError ? error.errors[0] : error
  if (!(first instanceof Error)) return { code: undefined, name: '' }
  const code = 'code' in first && typeof first.code === 'string' ? first.code : undefined
  return { code, name: first.name }
}

const place = (target: Multiaddr): string => {
  const { host, port } = hostAndPort(target)
  return port === undefined ? target.toString() : `${host}:${port}`
}

function hostAndPort(target: Multiaddr): { host: string; port: number | undefined } {
  try {
    const { host, port } = target.toOptions()
    return { host, port }
  } catch {
    return { host: target.toString(), port: undefined }
  }
}

async function lookAgain({ target, probeTimeoutMs, clock }: DialFailure): Promise<ProbeResult> {
  const { host, port } = hostAndPort(target)
  return port === undefined ? { kind: 'unreachable' } : probe(host, port, { timeoutMs: probeTimeoutMs, clock })
}

/** Sentences for refusals that libp2p does not raise itself. */
export const sentences = {
  self: (address: string) => refusal(address, 'self', `${address} is this node's own address`),
  banned: (address: string, peer: PeerId, forMs: number) =>
    refusal(
      address,
      'banned',
      Number.isFinite(forMs)
        ? `This node banned ${shortPeer(peer)} for another ${Math.ceil(forMs / 1000)} s`
        : `The deny list of this node names ${shortPeer(peer)}`
    ),
  wrongPeer: (address: string, expected: PeerId, actual: PeerId) =>
    refusal(address, 'wrong-peer-id', `${address} was to lead to ${expected}, but ${actual} answered`),
  notPeertune: (address: string, agent: string) =>
    refusal(address, 'not-peertune', `The node at ${address} is ${agent}, which does not speak peertune`),
  mute: (address: string) => refusal(address, 'timeout', `The node at ${address} did not say who it is in time`),
  dropped: (address: string) =>
    refusal(
      address,
      'unreachable',
      `The node at ${address} closed the connection after the handshake: it refuses this one`
    )
}
