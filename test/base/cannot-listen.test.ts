import { describe, expect, it } from 'vitest'
import { cannotListen } from '../../src/base/cannot-listen.js'
import { describeError } from '../../src/base/errors.js'

const system = (code: string) => Object.assign(new Error(`listen ${code}`), { code })
const inConfig = {
  host: '192.0.2.1',
  port: 80,
  fields: { host: 'listen', port: 'listen' },
  written: '/ip4/192.0.2.1/tcp/80',
  anyPort: '--listen /ip4/192.0.2.1/tcp/0'
}
const http = {
  host: 'gone.example',
  port: 7440,
  fields: { host: 'http.host', port: 'http.port' },
  anyPort: '--http-port 0'
}

describe('what cannot be listened on', () => {
  it.each([
    [
      inConfig,
      'EADDRINUSE',
      'config/port-in-use',
      /^listen: expected a free port, got 80 in .ip4.192\.0\.2\.1.tcp.80, which is in use \(.*--listen .*tcp.0\)$/
    ],
    [
      inConfig,
      'EADDRNOTAVAIL',
      'config/cannot-listen',
      /^listen: expected an address of this machine, got 192\.0\.2\.1 in /
    ],
    [inConfig, 'EACCES', 'config/cannot-listen', /^listen: expected a port that this user may open, got 80 in .*1024/],
    [
      http,
      'EADDRINUSE',
      'config/port-in-use',
      /^http\.port: expected a free port, got 7440, which is in use \(.*--http-port 0\)$/
    ],
    [
      http,
      'ENOTFOUND',
      'config/cannot-listen',
      /^http\.host: expected an address of this machine, got gone\.example \(/
    ],
    [
      http,
      'ENOBUFS',
      'config/cannot-listen',
      /^http\.port: nobody can listen at gone\.example, port 7440 \(listen ENOBUFS\)/
    ]
  ])('names field, address, port and what to do: %j, %s', (place, code, expected, sentence) => {
    const error = cannotListen(place, system(code))
    expect(error.code).toBe(expected)
    expect(describeError(error)).toMatch(sentence)
  })
})
