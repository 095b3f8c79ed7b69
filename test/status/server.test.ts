import { request } from 'node:http'
import { afterEach, describe, expect, it } from 'vitest'
import { type StatusServer, isLoopback, startStatusServer } from '../../src/status/server.js'
import type { Status } from '../../src/status/snapshot.js'
import { status } from './fixture.js'

const running: StatusServer[] = []
const start = async (options: Partial<Parameters<typeof startStatusServer>[0]> = {}) => {
  const server = await startStatusServer({ snapshot: () => status(), ...options })
  running.push(server)
  return server
}
afterEach(async () => {
  await Promise.all(running.splice(0).map((server) => server.close()))
})

/** fetch refuses to set Host, so this asks as a rebound browser would. */
const statusCodeFor = (port: number, host: string): Promise<number | undefined> =>
  new Promise((resolve, reject) => {
    const asked = request({ port, host: '127.0.0.1', path: '/status', headers: { host } }, (answer) => {
      answer.resume()
      resolve(answer.statusCode)
    })
    asked.on('error', reject).end()
  })

describe('startStatusServer', () => {
  it('listens on a free loopback port and says which', async () => {
    const { port, url } = await start()
    expect(url).toBe(`http://127.0.0.1:${port}/`)
    expect(port).toBeGreaterThan(0)
    const answer = await fetch(`${url}status`)
    expect(((await answer.json()) as Status).peerId).toBe(status().peerId)
  })

  it('refuses a foreign Host over a real socket', async () => {
    const { port } = await start()
    expect(await statusCodeFor(port, `127.0.0.1:${port}`)).toBe(200)
    expect(await statusCodeFor(port, `evil.example:${port}`)).toBe(403)
  })

  it('names the port that is in use', async () => {
    const { port } = await start()
    await expect(start({ port })).rejects.toMatchObject({
      code: 'config/port-in-use',
      message: `http.port: expected a free port, got ${port}, which is in use`,
      hint: expect.stringContaining('--http-port 0')
    })
  })

  it.each(['0.0.0.0', '::', '192.0.2.7', 'trainer.lan'])('refuses to bind %s unless told to expose', async (host) => {
    await expect(start({ host })).rejects.toMatchObject({ code: 'config/not-loopback', facts: { host } })
  })

  it('binds another address when told to expose', async () => {
    const { port } = await start({ host: '0.0.0.0', expose: true })
    expect((await fetch(`http://127.0.0.1:${port}/healthz`)).status).toBe(200)
  })

  it('says so when the address is not one of this machine', async () => {
    await expect(start({ host: '192.0.2.7', expose: true })).rejects.toMatchObject({ code: 'config/cannot-listen' })
  })

  it('closes at once although a client keeps its connection open', async () => {
    const server = await startStatusServer({ snapshot: () => status() })
    await (await fetch(`${server.url}healthz`)).text()
    await server.close()
    await expect(fetch(`${server.url}healthz`)).rejects.toThrow()
  })
})

describe('isLoopback', () => {
  it.each(['127.0.0.1', '127.8.9.10', '::1', 'localhost'])('%s', (host) => expect(isLoopback(host)).toBe(true))
  it.each(['0.0.0.0', '::', '10.0.0.1', '128.0.0.1', 'localhost.evil.example'])('not %s', (host) =>
    expect(isLoopback(host)).toBe(false)
  )
})
