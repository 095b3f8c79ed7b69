import { describe, expect, it } from 'vitest'
import { MAX_PEER_ROWS } from '../../src/status/page.js'
import { statusRoutes } from '../../src/status/routes.js'
import type { PeerStatus, Status } from '../../src/status/snapshot.js'
import { status } from './fixture.js'

const app = (changes: Partial<Status> = {}, host?: string) =>
  statusRoutes({ snapshot: () => status(changes), ...(host === undefined ? {} : { host }) })

const HOSTILE = `<script>alert(1)</script>"><img src=x onerror=alert(2)>'&`

describe('/status', () => {
  it('is one JSON document: the snapshot as it is', async () => {
    const answer = await app().request('/status')
    expect(answer.headers.get('content-type')).toContain('application/json')
    expect(await answer.json()).toEqual(JSON.parse(JSON.stringify(status())))
  })

  it('takes a new snapshot for every request', async () => {
    let done = 3
    const counting = statusRoutes({ snapshot: () => status({ steps: { done: done++, total: 9, perSecond: 1 } }) })
    const read = async () => ((await (await counting.request('/status')).json()) as Status).steps.done
    expect([await read(), await read()]).toEqual([3, 4])
  })
})

describe('/healthz and /readyz', () => {
  it('are 200 while the node trains', async () => {
    expect((await app().request('/healthz')).status).toBe(200)
    expect((await app().request('/readyz')).status).toBe(200)
  })

  it.each(['starting', 'stopping'] as const)('are healthy but not ready while %s', async (phase) => {
    expect((await app({ phase }).request('/healthz')).status).toBe(200)
    const ready = await app({ phase }).request('/readyz')
    expect(ready.status).toBe(503)
    expect(await ready.json()).toEqual({ ready: false, phase })
  })
})

describe('the page', () => {
  it('shows the node, its peers, the bootstrap diagnosis and the refusals', async () => {
    const answer = await app().request('/')
    const page = await answer.text()
    expect(answer.headers.get('content-type')).toContain('text/html')
    for (const text of [
      'alice',
      'letters',
      'step 120 of 400',
      'bob',
      '22222222',
      '2.5 s ago',
      '51.0 kB',
      'nothing listens there',
      'codec/truncated'
    ])
      expect(page).toContain(text)
  })

  it('escapes what peers and operators wrote, in text and in attributes', async () => {
    const peer: PeerStatus = {
      peerId: HOSTILE,
      label: HOSTILE,
      connected: true,
      exchanges: 1,
      bytesOut: 2,
      bytesIn: 3,
      refusals: 4
    }
    const page = await (
      await app({
        label: HOSTILE,
        federation: { name: HOSTILE, hash: HOSTILE },
        peers: [peer],
        refusals: { [HOSTILE]: 7 },
        bootstrap: [{ address: HOSTILE, state: 'failed', attempts: 1, sentence: HOSTILE }]
      }).request('/')
    ).text()
    expect(page).not.toContain('<script>')
    expect(page).not.toContain('<img')
    expect(page).toContain('&lt;script&gt;alert(1)&lt;/script&gt;&quot;&gt;&lt;img')
    // The attribute that carries the peer id must still end where the template ends it.
    expect(page).toMatch(/title="[^"<>]*"/)
  })

  it('loads nothing from elsewhere and says so in its policy', async () => {
    const answer = await app().request('/')
    const page = await answer.text()
    expect(page.match(/(?:src|href)="([^"]*)"/g)).toEqual([
      'href="/page.css"',
      'src="/page.js"',
      'href="/status"',
      'href="/metrics"'
    ])
    expect(answer.headers.get('content-security-policy')).toContain("default-src 'none'")
    expect(answer.headers.get('x-content-type-options')).toBe('nosniff')
    expect((await app().request('/page.css')).headers.get('content-type')).toContain('text/css')
    expect((await app().request('/page.js')).headers.get('content-type')).toContain('text/javascript')
  })

  it('bounds its table and counts the rest', async () => {
    const peers = Array.from(
      { length: MAX_PEER_ROWS + 7 },
      (_, i): PeerStatus => ({
        peerId: `peer-${i}`,
        connected: true,
        exchanges: i,
        bytesOut: 0,
        bytesIn: 0,
        refusals: 0
      })
    )
    const page = await (await app({ peers }).request('/')).text()
    expect(page.match(/<th scope="row"/g)).toHaveLength(MAX_PEER_ROWS)
    expect(page).toContain('and 7 more')
  })
})

describe('what is refused', () => {
  it.each(['evil.example', 'evil.example:8080', 'localhost.evil.example', '127.0.0.1.evil.example', 'a b', ''])(
    'the Host header %j, which a rebound name would send',
    async (host) => {
      const answer = await app().request('/status', { headers: { host } })
      expect(answer.status).toBe(403)
      expect(await answer.text()).not.toContain('12D3')
    }
  )

  it.each(['localhost', 'localhost:7440', 'LOCALHOST', '127.0.0.1:7440', '[::1]:7440', '192.0.2.7:80'])(
    'but not the Host header %j',
    async (host) => expect((await app().request('/status', { headers: { host } })).status).toBe(200)
  )

  it('nor the name the server was told to bind', async () => {
    const named = app({}, 'trainer.lan')
    expect((await named.request('/status', { headers: { host: 'trainer.lan:7440' } })).status).toBe(200)
    expect((await named.request('/status', { headers: { host: 'other.lan:7440' } })).status).toBe(403)
  })

  it.each(['POST', 'PUT', 'DELETE', 'PATCH', 'OPTIONS'])('%s', async (method) => {
    const answer = await app().request('/status', { method })
    expect(answer.status).toBe(405)
    expect(answer.headers.get('allow')).toBe('GET, HEAD')
  })

  it('an unknown path, as JSON', async () => {
    const answer = await app().request('/nope')
    expect(answer.status).toBe(404)
    expect(await answer.json()).toEqual({ error: 'not-found', path: '/nope' })
  })

  it('to tell a stranger what went wrong inside', async () => {
    const logged: string[] = []
    const log = { debug() {}, info() {}, warn() {}, error: (facts: object) => void logged.push(JSON.stringify(facts)) }
    const broken = statusRoutes({
      snapshot: () => {
        throw new Error('secret path /home/alice')
      },
      log
    })
    const answer = await broken.request('/status')
    expect(answer.status).toBe(500)
    expect(await answer.json()).toEqual({ error: 'internal' })
    expect(logged.join()).toContain('secret path')
  })
})
