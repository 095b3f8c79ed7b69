import { randomBroadcastScenario, randomScenario } from '../../src/sim/world/random-scenario.js'
import { runScenario } from '../../src/sim/run.js'
import { wholeFlag } from '../flags.js'

/** Failing seeds printed in full. */
const MAX_SHOWN = 10

/**
 * `npm run bench -- scenarios [--count N] [--broadcast N] [--from N] [--no-log] [--json]`: random scenarios by seed, of exchanges in
 * pairs and of broadcasts; every broken promise is counted and its seed printed, and the exit code is then 1.
 * `--from SEED --count 1 --broadcast 0` plays one again; `--no-log` plays those in pairs without the exchange log.
 */
export async function run(args: readonly string[]): Promise<object> {
  const count = wholeFlag(args, '--count', 2_000)
  const from = wholeFlag(args, '--from', 0)
  const totals = {
    exchanges: 0,
    crashes: 0,
    undone: 0,
    inDoubt: 0,
    framesLost: 0,
    duplicated: 0,
    linksCut: 0,
    withLiars: 0,
    caughtUp: 0
  }
  const failing: { readonly seed: string; readonly violations: readonly string[] }[] = []
  let worstDrift = 0
  const startedMs = performance.now()
  for (let n = from; n < from + count; n++) {
    const seed = String(n)
    const drawn = randomScenario(seed)
    const scenario = args.includes('--no-log') ? { ...drawn, peer: { ...drawn.peer, exchangeLog: false } } : drawn
    const { violations, exchanges, counts, network, drift = 0 } = await runScenario(scenario)
    totals.withLiars += scenario.attackers.length > 0 ? 1 : 0
    for (const reason of ['newcomer', 'away', 'odd-one-out']) totals.caughtUp += counts[`caught up ${reason}`] ?? 0
    totals.exchanges += exchanges
    totals.crashes += counts.crash ?? 0
    totals.undone += counts.undone ?? 0
    totals.inDoubt += counts['initiator in-doubt'] ?? 0
    totals.framesLost += network.lost
    totals.duplicated += network.duplicated
    totals.linksCut += network.cut
    worstDrift = Math.max(worstDrift, drift)
    if (violations.length > 0) failing.push({ seed, violations: violations.map((one) => `${one.code}: ${one.detail}`) })
  }
  const seconds = (performance.now() - startedMs) / 1000
  for (const { seed, violations } of failing.slice(0, MAX_SHOWN)) console.log(`seed ${seed}: ${violations.join('; ')}`)
  console.log(
    `${count} scenarios from seed ${from}: ${failing.length} with violations; ${totals.exchanges} exchanges, ` +
      `${totals.crashes} crashes, ${totals.inDoubt} times in doubt, ${totals.undone} undone, ` +
      `${totals.framesLost} frames lost, ${totals.duplicated} doubled, ${totals.linksCut} links cut, ${totals.withLiars} with liars, ` +
      `${totals.caughtUp} peers caught up; ` +
      `largest drift of the mean ${worstDrift.toExponential(1)}; ${seconds.toFixed(0)} s`
  )
  const broadcast = await broadcasts(wholeFlag(args, '--broadcast', 500), from)
  const result = {
    count,
    from,
    violations: failing.length,
    failing: failing.slice(0, MAX_SHOWN),
    worstDrift,
    ...totals,
    seconds,
    broadcast
  }
  if (failing.length + broadcast.violations > 0) process.exitCode = 1
  return result
}

/** The same for peers that broadcast: in the end all replicas are equal to the last bit, and nothing told is lost. */
async function broadcasts(count: number, from: number) {
  const totals = {
    updates: 0,
    crashes: 0,
    duplicates: 0,
    equivocations: 0,
    compactions: 0,
    snapshots: 0,
    framesLost: 0,
    linksCut: 0
  }
  const failing: { readonly seed: string; readonly violations: readonly string[] }[] = []
  const startedMs = performance.now()
  for (let n = from; n < from + count; n++) {
    const seed = String(n)
    const { violations, updates = 0, counts, network } = await runScenario(randomBroadcastScenario(seed))
    totals.updates += updates
    totals.crashes += counts.crash ?? 0
    totals.duplicates += counts['verdict broadcast/duplicate'] ?? 0
    totals.equivocations += counts.equivocation ?? 0
    totals.compactions += counts.compaction ?? 0
    totals.snapshots += counts['snapshot adopted'] ?? 0
    totals.framesLost += network.lost
    totals.linksCut += network.cut
    if (violations.length > 0) failing.push({ seed, violations: violations.map((one) => `${one.code}: ${one.detail}`) })
  }
  const seconds = (performance.now() - startedMs) / 1000
  for (const { seed, violations } of failing.slice(0, MAX_SHOWN))
    console.log(`broadcast seed ${seed}: ${violations.join('; ')}`)
  console.log(
    `${count} broadcast scenarios from seed ${from}: ${failing.length} with violations; ${totals.updates} updates, ` +
      `${totals.crashes} crashes, ${totals.duplicates} duplicates, ${totals.equivocations} equivocations, ` +
      `${totals.compactions} compactions, ${totals.snapshots} snapshots adopted, ` +
      `${totals.framesLost} frames lost, ${totals.linksCut} links cut; ${seconds.toFixed(0)} s`
  )
  const { equivocations, compactions, snapshots, ...rest } = totals
  const counted = { ...rest, caught: equivocations, folds: compactions, sums: snapshots }
  return { count, violations: failing.length, failing: failing.slice(0, MAX_SHOWN), ...counted, seconds }
}
