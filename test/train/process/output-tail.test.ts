import { once } from 'node:events'
import { PassThrough } from 'node:stream'
import { describe, expect, it } from 'vitest'
import {
  createOutputTail,
  MAX_LINE_CHARS,
  MAX_LOGGED_LINES,
  MAX_TAIL_LINES
} from '../../../src/train/process/output-tail.js'

async function read(chunks: readonly (string | Buffer)[]) {
  const logged: string[] = []
  const tail = createOutputTail((line) => logged.push(line))
  const stream = new PassThrough()
  tail.follow(stream)
  for (const chunk of chunks) stream.write(chunk)
  stream.end()
  await once(stream, 'end')
  return { logged, kept: tail.lines() }
}

describe('createOutputTail', () => {
  it('cuts a stream into lines, whatever the chunks', async () => {
    const bytes = Buffer.from('première\r\nsecond\n\nlast without end')
    const expected = ['première', 'second', 'last without end']
    expect((await read([bytes])).kept).toEqual(expected)
    expect((await read([...bytes].map((byte) => Buffer.of(byte)))).kept).toEqual(expected)
  })

  it('leaves colours out, and lines of nothing else', async () => {
    expect((await read(['\u001b[1;31mno such device\u001b[0m\n\u001b[m\n'])).kept).toEqual(['no such device'])
  })

  it('keeps the last lines and logs the first', async () => {
    const lines = Array.from({ length: 500 }, (_, i) => `line ${i}`)
    const { logged, kept } = await read([`${lines.join('\n')}\n`])
    expect(kept).toEqual(lines.slice(-MAX_TAIL_LINES))
    expect(logged).toEqual([...lines.slice(0, MAX_LOGGED_LINES), '(further output is left out)'])
  })

  it('cuts a line that never ends', async () => {
    const { kept } = await read(Array.from({ length: 100 }, () => 'y'.repeat(1000)))
    expect(kept).toEqual(['y'.repeat(MAX_LINE_CHARS)])
  })
})
