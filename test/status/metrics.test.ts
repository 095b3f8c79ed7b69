import { describe, expect, it } from 'vitest'
import { MAX_BANNED_SERIES, MAX_PEER_SERIES, prometheusText } from '../../src/status/metrics.js'
import type { PeerStatus, Status } from '../../src/status/snapshot.js'
import { status } from './fixture.js'

interface Sample {
  readonly name: string
  readonly labels: Readonly<Record<string, string>>
  readonly value: number
}

const UNESCAPED: Readonly<Record<string, string>> = { n: '\n', '"': '"', '\\': '\\' }

/** The text format as its specification has it (https://prometheus.io/docs/instrumenting/exposition_formats/). */
function parse(text: string): { samples: Sample[]; types: Map<string, string> } {
  const types = new Map<string, string>()
  const samples: Sample[] = []
  for (const line of text.split('\n').filter((one) => one !== '')) {
    const type = /^# TYPE (\S+) (\S+)$/.exec(line)
    if (type) types.set(type[1] as string, type[2] as string)
    if (line.startsWith('#')) continue
    const sample = /^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{((?:[a-zA-Z_]\w*="(?:[^"\\\n]|\\[n"\\])*",?)*)\})? (\S+)$/.exec(
      line
    )
    if (sample === null) throw new Error(`no sample: ${line}`)
    const pairs = [...(sample[2] ?? '').matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)]
    const labels = Object.fromEntries(
      pairs.map(([, name, value]) => [
        name,
        (value as string).replace(/\\(.)/g, (_, c: string) => UNESCAPED[c] as string)
      ])
    ) as Record<string, string>
    samples.push({ name: sample[1] as string, labels, value: Number(sample[3]) })
  }
  return { samples, types }
}

const scrape = async (changes: Partial<Status> = {}) => parse(await prometheusText(status(changes)))
const values = ({ samples }: { samples: Sample[] }, name: string) =>
  samples.filter((one) => one.name === name).map(({ labels, value }) => [labels, value])

describe('prometheusText', () => {
  it('carries the numbers of the snapshot under their units', async () => {
    const scraped = await scrape()
    expect(values(scraped, 'peertune_steps_total')).toEqual([[{}, 120]])
    expect(values(scraped, 'peertune_loss_nats')).toEqual([[{}, 2.125]])
    expect(values(scraped, 'peertune_uptime_seconds')).toEqual([[{}, 61.5]])
    expect(values(scraped, 'peertune_sent_bytes_total')).toEqual([[{}, 53_000]])
    expect(values(scraped, 'peertune_evaluation')).toEqual([[{ metric: 'accuracy' }, 0.375]])
    expect(values(scraped, 'peertune_exchanges_total')).toEqual([
      [{ outcome: 'completed' }, 12],
      [{ outcome: 'failed' }, 2]
    ])
    expect(values(scraped, 'peertune_refusals_total')).toEqual([
      [{ reason: 'codec/truncated' }, 5],
      [{ reason: 'consensus/stale' }, 6]
    ])
    expect(values(scraped, 'peertune_peer_staleness_seconds')).toEqual([[{ peer: status().peers[0]?.peerId }, 2.5]])
    expect(values(scraped, 'peertune_peers_connected')).toEqual([[{}, 1]])
  })

  it('calls counters counters and gauges gauges, each named as Prometheus asks', async () => {
    const { types } = await scrape()
    for (const [name, type] of types)
      expect([name, type]).toEqual([name, name.endsWith('_total') ? 'counter' : 'gauge'])
    expect(types.size).toBeGreaterThan(15)
  })

  it('is the same twice: nothing is counted again', async () => {
    expect(await prometheusText(status())).toBe(await prometheusText(status()))
  })

  it('escapes labels that peers chose', async () => {
    const scraped = await scrape({ refusals: { 'a"b\\c\nd': 3 }, federation: { name: 'x"} 1\nfake 2', hash: 'h' } })
    expect(values(scraped, 'peertune_refusals_total')).toEqual([[{ reason: 'a"b\\c\nd' }, 3]])
    expect(values(scraped, 'fake')).toEqual([])
  })

  it('leaves out what is not known yet', async () => {
    const { evaluation: _, checkpoint: __, ...bare } = status({ loss: {}, refusals: {}, peers: [] })
    const scraped = parse(await prometheusText(bare))
    for (const name of [
      'peertune_loss_nats',
      'peertune_evaluation',
      'peertune_checkpoint_step',
      'peertune_refusals_total'
    ])
      expect(values(scraped, name)).toEqual([])
  })

  it('shows what exchanges have shown, and who is turned away', async () => {
    const [bob, carol] = status().peers
    const scraped = await scrape({
      mixing: { distance: 3.5, crossTerm: 0.25, crossShare: 0.04, clipRate: 0.125, bytesPerExchange: 9000 },
      staleness: { steps: 7, limit: 100, waitsFor: 'contact' },
      neighbours: ['a', 'b', 'c'],
      caughtUp: { reason: 'newcomer', atMs: 61_500, sources: 5, distance: 8.5, kept: 0 },
      statesGiven: 6,
      peers: [
        { ...bob!, distance: 4.5, refusedFor: { 'codec/truncated': 2, 'state/rate-limited': 1 } },
        { ...carol!, offence: { code: 'codec/malformed', atMs: 5, bannedUntilMs: 7 } }
      ]
    })
    expect(values(scraped, 'peertune_mixing_distance')).toEqual([[{}, 3.5]])
    expect(values(scraped, 'peertune_mixing_cross_term')).toEqual([[{}, 0.25]])
    expect(values(scraped, 'peertune_mixing_cross_share')).toEqual([[{}, 0.04]])
    expect(values(scraped, 'peertune_mixing_clip_ratio')).toEqual([[{}, 0.125]])
    expect(values(scraped, 'peertune_mixing_exchange_bytes')).toEqual([[{}, 9000]])
    expect(values(scraped, 'peertune_staleness_steps')).toEqual([[{}, 7]])
    expect(values(scraped, 'peertune_staleness_limit_steps')).toEqual([[{}, 100]])
    expect(values(scraped, 'peertune_waiting')).toEqual([[{ for: 'contact' }, 1]])
    expect(values(scraped, 'peertune_overlay_neighbours')).toEqual([[{}, 3]])
    expect(values(scraped, 'peertune_caught_up_timestamp_seconds')).toEqual([[{ reason: 'newcomer' }, 61.5]])
    expect(values(scraped, 'peertune_states_given_total')).toEqual([[{}, 6]])
    expect(values(scraped, 'peertune_peer_refusals_by_reason_total')).toEqual([
      [{ peer: bob!.peerId, reason: 'codec/truncated' }, 2],
      [{ peer: bob!.peerId, reason: 'state/rate-limited' }, 1]
    ])
    expect(values(scraped, 'peertune_peer_distance')).toEqual([[{ peer: bob!.peerId }, 4.5]])
    expect(values(scraped, 'peertune_peer_banned')).toEqual([[{ peer: carol!.peerId, reason: 'codec/malformed' }, 1]])
    expect(values(scraped, 'peertune_peers_banned')).toEqual([[{}, 1]])
  })

  it('gives series to a bounded number of peers, those of the latest exchanges', async () => {
    const peers = Array.from(
      { length: MAX_PEER_SERIES + 20 },
      (_, i): PeerStatus => ({
        peerId: `peer-${i}`,
        connected: true,
        lastExchangeAtMs: 1000 + i,
        exchanges: 1,
        bytesOut: 1,
        bytesIn: 1,
        refusals: 0
      })
    )
    const named = values(await scrape({ peers }), 'peertune_peer_exchanges_total').map(
      ([labels]) => (labels as { peer: string }).peer
    )
    expect(named).toHaveLength(MAX_PEER_SERIES)
    expect(named).toContain(`peer-${peers.length - 1}`)
    expect(named).not.toContain('peer-0')
  })

  it('names those that are turned away although they are long quiet, up to a bound', async () => {
    const offence = { code: 'codec/malformed', atMs: 5, bannedUntilMs: 7 }
    const peers = Array.from(
      { length: MAX_PEER_SERIES + 20 },
      (_, i): PeerStatus => ({
        peerId: `peer-${i}`,
        connected: false,
        lastExchangeAtMs: 1000 + i,
        exchanges: 1,
        bytesOut: 1,
        bytesIn: 1,
        refusals: 10,
        ...(i < MAX_BANNED_SERIES + 5 ? { offence } : {})
      })
    )
    const scraped = await scrape({ peers })
    const named = (metric: string) => values(scraped, metric).map(([labels]) => (labels as { peer: string }).peer)
    expect(named('peertune_peer_banned')).toEqual(peers.slice(0, MAX_BANNED_SERIES).map(({ peerId }) => peerId))
    expect(named('peertune_peer_exchanges_total')).toHaveLength(MAX_PEER_SERIES)
    expect(values(scraped, 'peertune_peers_banned')).toEqual([[{}, MAX_BANNED_SERIES + 5]])
  })
})
