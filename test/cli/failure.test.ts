import { describe, expect, it } from 'vitest'
import { PeertuneError } from '../../src/base/errors.js'
import { exitCodeOf, failureText } from '../../src/cli/failure.js'
import { statusText } from '../../src/cli/status-text.js'
import { status } from '../status/fixture.js'

describe('failures', () => {
  it.each([
    [new PeertuneError('config/unknown-key', 'x'), 2],
    [new PeertuneError('onnx/not-a-model', 'x'), 2],
    [new PeertuneError('autodiff/no-rule', 'x'), 2],
    [new PeertuneError('onnx/run-failed', 'x'), 1],
    [new PeertuneError('data/bad-row', 'x'), 1],
    [new Error('x'), 1],
    ['thrown text', 1]
  ])('%s ends with %d', (error, code) => expect(exitCodeOf(error)).toBe(code))

  it('are one sentence with its hint, and stacks only for debugging', () => {
    const error = new PeertuneError('config/x', 'a.yaml:3: steps: expected 1, got 2', {
      hint: 'write 1',
      cause: new Error('inner')
    })
    expect(failureText(error)).toBe('error: a.yaml:3: steps: expected 1, got 2 (write 1)')
    expect(failureText(error, { debug: true })).toMatch(
      /^error: .*\nPeertuneError: .*\n {4}at [\s\S]*caused by Error: inner\n/
    )
  })

  it('cannot write over the terminal', () => {
    expect(failureText(new Error('a\u001b[2J\nb'))).toBe('error: a\ufffd[2J\ufffdb')
  })
})

describe('statusText', () => {
  it('shows node, diagnosis and peers', () => {
    const text = statusText(status()).join('\n')
    for (const part of [
      'alice 12D3KooW',
      'letters abab',
      'training, up 1 min 2 s',
      '120 of 400, 7.5/s',
      'failed: nothing listens there',
      'codec/truncated 5',
      'bob 22222222'
    ])
      expect(text).toContain(part)
  })

  it('shows what exchanges have shown, where there were any', () => {
    expect(statusText(status()).join('\n')).not.toContain('mixing')
    const mixing = { distance: 3.456, crossTerm: 0.25, crossShare: 0.0421, clipRate: 0, bytesPerExchange: 9000 }
    expect(statusText(status({ mixing }))).toContain('mixing      partners 3.46 away, cross term 4.2 % of the products')
  })

  it('says that there are no peers yet', () => {
    expect(statusText(status({ peers: [] })).at(-1)).toBe('peers       none yet')
  })
})
