import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { MAX_ANNOUNCEMENT_BYTES as GOSSIP_LIMIT } from '../../../src/gossip/limits.js'
import type { Decoded } from '../../../src/base/verdict.js'
import type { Announcement, ExchangeMessage } from '../../../src/codec/wire/messages.js'
import {
  decodeAnnouncement,
  decodeExchangeMessage,
  encodeAnnouncement,
  encodeExchangeMessage,
  MAX_ANNOUNCEMENT_BYTES,
  MAX_LABEL_LENGTH,
  MAX_MESSAGE_BYTES
} from '../../../src/codec/wire/wire.js'
import { runs } from '../../counts.js'

const hash = (digit: string): string => digit.repeat(64)
const exchangeId = '00112233445566778899aabbccddeeff'
const payload = { sizeBytes: 1032, sha256: hash('c') }

const messages: readonly ExchangeMessage[] = [
  {
    type: 'hello',
    exchangeId,
    federation: hash('a'),
    schema: hash('b'),
    phase: 'training',
    weight: 300,
    codec: 'int8',
    gamma: 0.5
  },
  { type: 'accept', exchangeId, phase: 'settling', weight: 70_000, payload },
  { type: 'refuse', exchangeId, code: 'other-schema' },
  { type: 'commit', exchangeId, payload },
  { type: 'ack', exchangeId },
  { type: 'resolve', exchangeId },
  { type: 'resolution', exchangeId, fate: 'undone' },
  {
    type: 'hello',
    exchangeId,
    federation: hash('a'),
    schema: hash('b'),
    phase: 'training',
    weight: 300,
    codec: 'int4-edge',
    gamma: 0.9,
    reference: { hash: hash('c'), sequence: 17 },
    radius: 0
  },
  {
    type: 'accept',
    exchangeId,
    phase: 'settling',
    weight: 3,
    payload,
    reference: { hash: hash('d'), sequence: 3 },
    radius: 0.5
  }
]

const announcement: Announcement = {
  federation: hash('a'),
  sequence: 1_790_000_000_123,
  step: 400,
  phase: 'settling',
  loss: 2.75,
  samples: 1200,
  exchanges: 37,
  bytesSent: 5_000_000_000,
  bytesReceived: 4_999_999_999,
  software: 'peertune/0.1.0',
  label: 'Käthe'
}

const codeOf = (result: Decoded<unknown>): string | undefined =>
  result.ok || result.verdict.verdict === 'accept' ? undefined : result.verdict.code

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex')

/** Protobuf by hand (https://protobuf.dev/programming-guides/encoding/), an implementation of its own for the golden bytes. */
const tag = (field: number, wireType: number): number => (field << 3) | wireType
const bytesField = (field: number, bytes: Uint8Array): number[] => [tag(field, 2), bytes.length, ...bytes]
const id = Buffer.from(exchangeId, 'hex')

describe('exchange messages', () => {
  it.each(messages.map((message) => [message.type, message] as const))('%s survives the wire', (_, message) => {
    const bytes = encodeExchangeMessage(message)
    expect(decodeExchangeMessage(bytes)).toEqual({ ok: true, value: message })
    expect(bytes.length).toBeLessThan(200)
  })

  it('pins the bytes of a commit, written by hand', () => {
    const header = [tag(1, 0), 0x88, 0x08, ...bytesField(2, Buffer.alloc(32, 0xcc))]
    const body = bytesField(1, Uint8Array.from(header))
    const golden = [tag(1, 0), 1, ...bytesField(2, id), ...bytesField(6, Uint8Array.from(body))]
    expect([...encodeExchangeMessage(messages[3]!)]).toEqual(golden)
  })

  it('pins the bytes of a hello, written by hand', () => {
    const gamma = new Uint8Array(8)
    new DataView(gamma.buffer).setFloat64(0, 0.5, true)
    const body = [
      ...bytesField(1, Buffer.alloc(32, 0xaa)),
      ...bytesField(2, Buffer.alloc(32, 0xbb)),
      ...[tag(3, 0), 1],
      ...[tag(4, 0), 0xac, 0x02],
      ...bytesField(5, Buffer.from('int8')),
      ...[tag(6, 1), ...gamma]
    ]
    const golden = [tag(1, 0), 1, ...bytesField(2, id), ...bytesField(3, Uint8Array.from(body))]
    expect([...encodeExchangeMessage(messages[0]!)]).toEqual(golden)
  })

  it('ignores fields of a later version', () => {
    const bytes = Uint8Array.of(...encodeExchangeMessage(messages[4]!), ...bytesField(15, Buffer.from('later')))
    expect(decodeExchangeMessage(bytes)).toEqual({ ok: true, value: messages[4] })
  })

  it('reads a refusal it does not know as unspecified', () => {
    const bytes = Uint8Array.of(tag(1, 0), 1, ...bytesField(2, id), ...bytesField(5, Uint8Array.of(tag(1, 0), 99)))
    expect(decodeExchangeMessage(bytes)).toEqual({
      ok: true,
      value: { type: 'refuse', exchangeId, code: 'unspecified' }
    })
  })

  it.each([
    ['no bytes', [], 'codec/unsupported-version'],
    ['version 2', [tag(1, 0), 2, ...bytesField(2, id), ...bytesField(7, Uint8Array.of())], 'codec/unsupported-version'],
    ['no body', [tag(1, 0), 1, ...bytesField(2, id)], 'codec/malformed'],
    ['a body of a later type', [tag(1, 0), 1, ...bytesField(2, id), ...bytesField(14, id)], 'codec/malformed'],
    [
      'a short id',
      [tag(1, 0), 1, ...bytesField(2, id.subarray(1)), ...bytesField(7, Uint8Array.of())],
      'codec/malformed'
    ],
    [
      'an accept without payload',
      [tag(1, 0), 1, ...bytesField(2, id), ...bytesField(4, Uint8Array.of(8, 1))],
      'codec/malformed'
    ],
    [
      'a resolution without fate',
      [tag(1, 0), 1, ...bytesField(2, id), ...bytesField(9, Uint8Array.of())],
      'codec/malformed'
    ],
    ['a length beyond the end', [tag(2, 2), 0xff, 0xff, 0xff, 0xff, 0x07], 'codec/malformed']
  ])('refuses %s', (_, bytes, code) => {
    expect(codeOf(decodeExchangeMessage(Uint8Array.from(bytes)))).toBe(code)
  })

  it('refuses a gamma that is no number', () => {
    const bytes = encodeExchangeMessage({ ...messages[0]!, gamma: Number.NaN } as ExchangeMessage)
    expect(codeOf(decodeExchangeMessage(bytes))).toBe('codec/malformed')
  })

  it('looks at the length before anything else', () => {
    expect(codeOf(decodeExchangeMessage(new Uint8Array(MAX_MESSAGE_BYTES + 1)))).toBe('codec/too-large')
  })
})

describe('announcements', () => {
  it('survive the wire, with and without loss and label', () => {
    expect(decodeAnnouncement(encodeAnnouncement(announcement))).toEqual({ ok: true, value: announcement })
    const { loss: _loss, label: _label, ...bare } = announcement
    expect(decodeAnnouncement(encodeAnnouncement(bare))).toEqual({ ok: true, value: bare })
    const zeroLoss = { ...bare, loss: 0 }
    expect(decodeAnnouncement(encodeAnnouncement(zeroLoss))).toEqual({ ok: true, value: zeroLoss })
  })

  it('pins its bytes', () => {
    expect(hex(encodeAnnouncement(announcement))).toMatchInlineSnapshot(
      `"08011220aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa18fbd8c1a28c34209003280231000000000000064038b00940254880e497d01250ffe397d0125a0e7065657274756e652f302e312e3062064bc3a4746865"`
    )
  })

  it.each([
    ['a loss that is no number', { loss: Number.NaN }],
    ['an infinite loss', { loss: Infinity }],
    ['an escape sequence in the label', { label: '\u001b[2J' }],
    ['a right-to-left override in the label', { label: 'a\u202eb' }],
    ['a line break in the software', { software: 'x\ny' }],
    ['a long label', { label: 'x'.repeat(MAX_LABEL_LENGTH + 1) }]
  ])('refuse %s', (_, change) => {
    expect(codeOf(decodeAnnouncement(encodeAnnouncement({ ...announcement, ...change })))).toBe('codec/malformed')
  })

  it('have the limit of the room that carries them', () => {
    expect(MAX_ANNOUNCEMENT_BYTES).toBe(GOSSIP_LIMIT)
  })

  it('refuse more than 64 KB, theirs by verdict and ours by exception', () => {
    expect(codeOf(decodeAnnouncement(new Uint8Array(MAX_ANNOUNCEMENT_BYTES + 1)))).toBe('codec/too-large')
    expect(() => encodeAnnouncement({ ...announcement, label: 'x'.repeat(70_000) })).toThrow(
      expect.objectContaining({ code: 'codec/too-large' })
    )
  })
})

describe.each([
  ['exchange message', decodeExchangeMessage, messages.map(encodeExchangeMessage)],
  ['announcement', decodeAnnouncement, [encodeAnnouncement(announcement)]]
] as const)('a hostile %s', (_, decode: (bytes: Uint8Array) => Decoded<unknown>, valid) => {
  const judged = (bytes: Uint8Array): void => {
    const result = decode(bytes)
    if (!result.ok) expect(codeOf(result)).toMatch(/^codec\//)
  }

  it('of random bytes gets a verdict', () => {
    fc.assert(fc.property(fc.uint8Array({ maxLength: 300 }), judged), { numRuns: runs(2000) })
  })

  it('cut anywhere gets a verdict', () => {
    for (const bytes of valid) for (let end = 0; end < bytes.length; end++) judged(bytes.subarray(0, end))
  })

  it('with any byte changed gets a verdict', () => {
    fc.assert(
      fc.property(fc.constantFrom(...valid), fc.nat(), fc.nat(255), (bytes, at, value) => {
        const changed = Uint8Array.from(bytes)
        changed[at % changed.length] = value
        judged(changed)
      }),
      { numRuns: runs(3000) }
    )
  })
})
