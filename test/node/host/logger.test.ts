import { describe, expect, it } from 'vitest'
import { createLogger } from '../../../src/node/host/logger.js'

const collect = (options: { level?: 'debug' | 'warn' | 'silent'; readable?: boolean } = {}) => {
  const lines: string[] = []
  return { lines, log: createLogger({ ...options, sink: { write: (line: string) => lines.push(line) } }) }
}

describe('createLogger', () => {
  it('writes one JSON object a line, facts beside the sentence', () => {
    const { lines, log } = collect()
    log.info({ peer: 'bob', bytes: 512, missing: undefined }, 'exchange done')
    expect(lines).toHaveLength(1)
    expect(JSON.parse(lines[0] as string)).toEqual({
      level: 'info',
      time: expect.any(Number),
      peer: 'bob',
      bytes: 512,
      msg: 'exchange done'
    })
  })

  it.each([
    ['debug', ['d', 'i', 'w', 'e']],
    ['warn', ['w', 'e']],
    ['silent', []]
  ] as const)('at level %s writes %j', (level, expected) => {
    const { lines, log } = collect({ level })
    log.debug({}, 'd')
    log.info({}, 'i')
    log.warn({}, 'w')
    log.error({}, 'e')
    expect(lines.map((line) => JSON.parse(line).msg)).toEqual(expected)
  })

  it('writes a readable line for people', () => {
    const { lines, log } = collect({ readable: true })
    log.warn({ address: '/ip4/1', loss: 2.123456789, why: 'two words', list: [1, 2] }, 'no answer')
    expect(lines[0]).toMatch(
      /^\d\d:\d\d:\d\d\.\d{3} WARN {2}no answer {2}address=\/ip4\/1 {2}loss=2\.12346 {2}why="two words" {2}list=\[1,2\]\n$/
    )
  })

  it('lets no peer write into the terminal', () => {
    const { lines, log } = collect({ readable: true })
    log.info({ label: '\u001b[2J\u202eevil\nfake line' }, 'hello \u009b31m')
    // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what must not be there
    expect(lines[0]?.slice(0, -1)).not.toMatch(/[\u0000-\u001f\u0080-\u009f\u202e]/)
  })
})
