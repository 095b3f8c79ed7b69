/**
 * Why an exchange was refused or failed, by code, where an honest network under churn gives a reason for it. A code that is
 * not here is a finding: nobody lies in a testnet.
 */
const REASONS: Readonly<Record<string, string>> = {
  'told/busy': 'a partner called while this node was in another exchange; it comes back',
  'heard/busy': 'the partner was in another exchange; another one was tried',
  'told/leaving': 'a partner called while this node was leaving',
  'heard/leaving': 'the partner was leaving',
  'told/rate-limited': 'a partner called more often than its budget allows',
  'heard/rate-limited': 'this node called more often than its budget allows',
  'exchange/rate-limited': 'a partner called more often than its budget allows',
  'exchange/timeout': 'a partner stopped in the middle: killed, cut off, or starved of the processor',
  'exchange/unexpected-message': 'an answer came twice or to an exchange that had been given up',
  'announcement/stale': 'an announcement came a second time or was overtaken by a newer one',
  'announcement/too-frequent': 'a peer announced two changes in quick succession',
  'failed/exchange/broken-link': 'the connection ended in the middle: killed, denied or replaced',
  'failed/exchange/superseded': 'the partner had lost the link and called again',
  'failed/exchange/timeout': 'no answer in time: the partner was killed, cut off, or starved of the processor',
  'failed/in-doubt': 'the connection ended after COMMIT; the journal settled it at the next contact',
  'failed/leaving': 'the partner was leaving',
  'failed/unknown-exchange': 'the partner had given the exchange up or restarted',
  'failed/gossip/not-connected': 'the partner was gone: killed or denied',
  'failed/gossip/open-failed': 'the connection ended while a stream was being opened: killed or denied',
  'failed/gossip/unsupported-protocol': 'the partner had just started and did not answer exchanges yet',
  'failed/gossip/channel-broken': 'the connection ended: killed or denied',
  'failed/gossip/not-running': 'this node was leaving'
}

export interface Explained {
  readonly code: string
  readonly count: number
  /** Absent: nothing that should happen among honest peers. */
  readonly reason?: string
}

type Counts = Readonly<Record<string, number>>

export function sumOf(counts: readonly Counts[]): Counts {
  const sums: Record<string, number> = {}
  for (const one of counts)
    for (const [code, count] of Object.entries(one)) if (count > 0) sums[code] = (sums[code] ?? 0) + count
  return sums
}

/** Sums by code over all peers, the most frequent first. */
export function explain(counts: readonly Counts[]): readonly Explained[] {
  return Object.entries(sumOf(counts))
    .sort((a, b) => b[1] - a[1])
    .map(([code, count]) => {
      const reason = REASONS[code]
      return { code, count, ...(reason === undefined ? {} : { reason }) }
    })
}
