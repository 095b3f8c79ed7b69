import { isIP } from 'node:net'
import { type Context, Hono, type MiddlewareHandler } from 'hono'
import { describeError } from '../base/errors.js'
import { type Logger, silentLogger } from '../base/log.js'
import { METRICS_CONTENT_TYPE, prometheusText } from './metrics.js'
import { PAGE_SCRIPT, PAGE_STYLE, statusPage } from './page.js'
import { type Status, isReady } from './snapshot.js'

export interface StatusRoutesOptions {
  readonly snapshot: () => Status
  /** The name the server was told to bind; requests may use it in their Host header. */
  readonly host?: string
  readonly log?: Logger
}

/** Nothing from elsewhere, no frames, no forms: what a peer writes can at worst be read. */
const SECURITY_HEADERS: Readonly<Record<string, string>> = {
  'content-security-policy': [
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'",
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
  ].join('; '),
  'x-content-type-options': 'nosniff',
  'referrer-policy': 'no-referrer',
  'cross-origin-resource-policy': 'same-origin',
  'cache-control': 'no-store'
}

/**
 * The node's read-only HTTP interface: `/status` (JSON), `/metrics` (Prometheus text), `/healthz`, `/readyz` and a page
 * at `/`. Only GET; a Host header that names neither this machine nor an address is refused (DNS rebinding).
 */
export function statusRoutes({ snapshot, host = 'localhost', log = silentLogger }: StatusRoutesOptions): Hono {
  const app = new Hono()
  app.use(securityHeaders, onlyKnownHosts(host), onlyGet)
  app.get('/', (c) => c.html(statusPage(snapshot())))
  app.get('/page.css', (c) => c.body(PAGE_STYLE, 200, { 'content-type': 'text/css; charset=utf-8' }))
  app.get('/page.js', (c) => c.body(PAGE_SCRIPT, 200, { 'content-type': 'text/javascript; charset=utf-8' }))
  app.get('/status', (c) => c.body(JSON.stringify(snapshot(), null, 2), 200, { 'content-type': 'application/json' }))
  app.get('/metrics', async (c) =>
    c.body(await prometheusText(snapshot()), 200, { 'content-type': METRICS_CONTENT_TYPE })
  )
  app.get('/healthz', (c) => c.json({ status: 'ok' }))
  app.get('/readyz', (c) => {
    const status = snapshot()
    return c.json({ ready: isReady(status), phase: status.phase }, isReady(status) ? 200 : 503)
  })
  app.notFound((c) => c.json({ error: 'not-found', path: c.req.path }, 404))
  app.onError((error, c) => {
    log.error({ path: c.req.path, problem: describeError(error) }, 'a status request failed')
    return c.json({ error: 'internal' }, 500)
  })
  return app
}

const securityHeaders: MiddlewareHandler = async (c, next) => {
  await next()
  for (const [name, value] of Object.entries(SECURITY_HEADERS)) c.header(name, value)
}

const onlyGet: MiddlewareHandler = async (c, next) => {
  if (c.req.method === 'GET' || c.req.method === 'HEAD') return next()
  return c.json({ error: 'method-not-allowed', allow: ['GET'] }, 405, { allow: 'GET, HEAD' })
}

/** A page on a rebound name sends that name; one of ours sends localhost, an address or the name we were given. */
const onlyKnownHosts =
  (own: string): MiddlewareHandler =>
  async (c, next) => {
    const name = hostName(c)
    if (name !== undefined && (name === 'localhost' || name === own.toLowerCase() || isIP(name) !== 0)) return next()
    return c.json({ error: 'unknown-host', expected: 'localhost, an IP address or the configured host' }, 403)
  }

/** Without port and without the brackets of IPv6. */
function hostName(c: Context): string | undefined {
  const url = `http://${c.req.header('host') ?? new URL(c.req.url).host}`
  return URL.canParse(url) ? new URL(url).hostname.replace(/^\[|\]$/g, '').toLowerCase() : undefined
}
