import type { Server } from 'node:http'
import { type AddressInfo, BlockList, isIP } from 'node:net'
import { createAdaptorServer } from '@hono/node-server'
import { cannotListen } from '../base/cannot-listen.js'
import { PeertuneError } from '../base/errors.js'
import { type StatusRoutesOptions, statusRoutes } from './routes.js'

export interface StatusServerOptions extends Omit<StatusRoutesOptions, 'host'> {
  readonly host?: string
  /** 0: any free port. */
  readonly port?: number
  /** Must be said to bind an address that other machines can reach. */
  readonly expose?: boolean
}

export interface StatusServer {
  /** Ends with a slash. */
  readonly url: string
  readonly port: number
  close(): Promise<void>
}

/** Connections at once: a browser or two, a scraper, the command line. */
const MAX_CONNECTIONS = 64
/** Milliseconds a client may take over its headers and its whole request. */
const REQUEST_TIMEOUT_MS = 10_000

const LOOPBACK = new BlockList()
LOOPBACK.addSubnet('127.0.0.0', 8, 'ipv4')
LOOPBACK.addAddress('::1', 'ipv6')

/** Whether only this machine can reach the address. A name other than localhost could be anyone's. */
export const isLoopback = (host: string): boolean =>
  host === 'localhost' || (isIP(host) !== 0 && LOOPBACK.check(host, isIP(host) === 6 ? 'ipv6' : 'ipv4'))

/**
 * Serves `statusRoutes`. Throws `config/not-loopback`, `config/port-in-use` and `config/cannot-listen`, each naming
 * host and port.
 */
export async function startStatusServer({
  host = '127.0.0.1',
  port = 0,
  expose = false,
  ...routes
}: StatusServerOptions): Promise<StatusServer> {
  if (!expose && !isLoopback(host))
    throw new PeertuneError('config/not-loopback', `http.host: expected an address of this machine only, got ${host}`, {
      facts: { host },
      hint: 'the status page has no password; set http.expose: true to let others read it'
    })
  const app = statusRoutes({ ...routes, host })
  const server = createAdaptorServer({ fetch: app.fetch, overrideGlobalObjects: false }) as Server
  server.maxConnections = MAX_CONNECTIONS
  server.requestTimeout = REQUEST_TIMEOUT_MS
  server.headersTimeout = REQUEST_TIMEOUT_MS
  await listen(server, host, port)
  const bound = (server.address() as AddressInfo).port
  const name = isIP(host) === 6 ? `[${host}]` : host
  return { url: `http://${name}:${bound}/`, port: bound, close: () => close(server) }
}

function listen(server: Server, host: string, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const fields = { host: 'http.host', port: 'http.port' }
    const place = { host, port, fields, anyPort: '--http-port 0' }
    server.once('error', (cause) => reject(cannotListen(place, cause)))
    server.listen(port, host, resolve)
  })
}

function close(server: Server): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => resolve())
    server.closeAllConnections()
  })
}
