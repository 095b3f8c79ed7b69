import { connect, createServer, type AddressInfo, type Server } from 'node:net'
import { afterEach, describe, expect, it } from 'vitest'
import { checkListen } from '../../../src/gossip/libp2p/listen.js'

const servers: Server[] = []
afterEach(() => {
  for (const server of servers.splice(0)) server.close()
})

/** A port that somebody listens on. */
async function takenPort(): Promise<number> {
  const server = createServer()
  servers.push(server)
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return (server.address() as AddressInfo).port
}

async function freePort(): Promise<number> {
  const port = await takenPort()
  await new Promise((closed) => servers.pop()!.close(closed))
  return port
}

describe('checkListen', () => {
  it('leaves every address as it was: free', async () => {
    const address = `/ip4/127.0.0.1/tcp/${await freePort()}`
    await checkListen([address, '/ip4/127.0.0.1/tcp/0', '/dns4/localhost/tcp/0'])
    await checkListen([address])
    const { port } = new URL(`http://${address.replace('/ip4/', '').replace('/tcp/', ':')}`)
    const refused = new Promise((resolve) => connect(Number(port), '127.0.0.1').on('error', resolve))
    expect(await refused).toMatchObject({ code: 'ECONNREFUSED' })
  })

  it('names the one address of several that is taken, and the port', async () => {
    const port = await takenPort()
    const address = `/ip4/127.0.0.1/tcp/${port}`
    await expect(checkListen(['/ip4/127.0.0.1/tcp/0', address])).rejects.toMatchObject({
      code: 'config/port-in-use',
      message: `listen: expected a free port, got ${port} in ${address}, which is in use`,
      hint: expect.stringContaining('--listen /ip4/127.0.0.1/tcp/0')
    })
  })

  it('finds a port that is named twice', async () => {
    const address = `/ip4/127.0.0.1/tcp/${await freePort()}`
    await expect(checkListen([address, address])).rejects.toMatchObject({ code: 'config/port-in-use' })
    await checkListen([address])
  })

  // RFC 5737: no machine has it.
  it('names an address that the machine lacks', async () => {
    await expect(checkListen(['/ip4/192.0.2.1/tcp/4001'])).rejects.toMatchObject({
      code: 'config/cannot-listen',
      message: 'listen: expected an address of this machine, got 192.0.2.1 in /ip4/192.0.2.1/tcp/4001'
    })
  })

  it.each(['/ip4/127.0.0.1/tcp/65536', '/ip4/127.0.0.256/tcp/1', '/ip6/zz::/tcp/1'])('refuses %s', async (address) => {
    await expect(checkListen([address])).rejects.toMatchObject({
      code: 'config/cannot-listen',
      message: `listen: expected an address, got ${address}`
    })
  })
})
