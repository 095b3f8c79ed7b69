import { createServer, type Server } from 'node:net'
import { multiaddr } from '@multiformats/multiaddr'
import { cannotListen } from '../../base/cannot-listen.js'
import { PeertuneError, describeError } from '../../base/errors.js'

/**
 * Takes every one of the addresses for a moment and gives them back: what cannot be had is said before anything slow is
 * done, and in words, where libp2p writes a stack for each. Throws `config/port-in-use` and `config/cannot-listen`.
 */
export async function checkListen(addresses: readonly string[]): Promise<void> {
  const bound: Server[] = []
  try {
    for (const address of addresses) bound.push(await bind(address))
  } finally {
    await Promise.all(bound.map((server) => new Promise((closed) => server.close(closed))))
  }
}

function bind(address: string): Promise<Server> {
  const { host, port, family } = optionsOf(address)
  const server = createServer((socket) => socket.destroy())
  return new Promise((resolve, reject) => {
    server.once('error', (cause) => {
      const fields = { host: 'listen', port: 'listen' }
      const anyPort = `--listen ${address.replace(/\d+$/, '0')}`
      reject(cannotListen({ host, port, fields, written: address, anyPort }, cause))
    })
    // As libp2p does: an IPv6 address takes no IPv4 port along.
    server.listen({ host, port, ipv6Only: family === 6 }, () => resolve(server))
  })
}

function optionsOf(address: string) {
  try {
    return multiaddr(address).toOptions()
  } catch (cause) {
    throw new PeertuneError('config/cannot-listen', `listen: expected an address, got ${address}`, {
      facts: { address },
      hint: describeError(cause),
      cause
    })
  }
}

/** Why a node could not start: the address that cannot be had, where that is it. */
export async function startFailure(listen: readonly string[], cause: unknown): Promise<PeertuneError> {
  try {
    await checkListen(listen)
  } catch (error) {
    return error as PeertuneError
  }
  const reason = describeError(cause).split('\n')[0]
  return new PeertuneError('config/cannot-listen', `listen: nobody can listen at ${listen.join(', ')} (${reason})`, {
    facts: { listen },
    hint: 'use addresses of this machine such as /ip4/0.0.0.0/tcp/4001',
    cause
  })
}
