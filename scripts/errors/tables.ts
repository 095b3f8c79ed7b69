import { PeertuneError } from '../../src/base/errors.js'
import { exitCodeOf } from '../../src/cli/failure.js'
import type { Advice } from './advice.js'
import type { Collected, Judged, Thrown } from './collect.js'
import { refusalOf } from './refusals.js'

/** One error code with all that is known of it. */
export interface ErrorRow {
  readonly code: string
  /** Of the command that it ends. */
  readonly exit: number
  readonly sentences: readonly string[]
  /** Hints of the code, then what advice.yaml has for sentences without one. */
  readonly advice: readonly string[]
  /** A sentence has no hint in the code. */
  readonly needsAdvice: boolean
  /** A sentence has no hint and the code no advice: nobody says what to do. */
  readonly isMute: boolean
}

/** One code by which something of a peer was refused, or an attempt with it ended. */
export interface PeerRow {
  readonly code: string
  readonly costs: string
  readonly means: string
  readonly advice: string
  readonly isMute: boolean
}

export interface Tables {
  readonly errors: readonly ErrorRow[]
  readonly peers: readonly PeerRow[]
}

export function tablesOf({ thrown, judged }: Collected, refusals: readonly string[], advice: Advice): Tables {
  const codes = sorted(thrown.map(({ code }) => code))
  return {
    errors: codes.map((code) => errorRow(code, thrown, advice)),
    peers: peerRows(judged, refusals, advice)
  }
}

const sorted = (codes: readonly string[]): readonly string[] => [...new Set(codes)].sort()

function errorRow(code: string, thrown: readonly Thrown[], { errors }: Advice): ErrorRow {
  const own = thrown.filter((one) => one.code === code)
  const hints = own.flatMap(({ hint }) => hint ?? [])
  const isBare = own.some(({ hint }) => hint === undefined)
  return {
    code,
    exit: exitCodeOf(new PeertuneError(code, '')),
    sentences: [...new Set(own.map(({ sentence }) => sentence))],
    advice: [...new Set([...hints, ...(isBare && errors[code] !== undefined ? [errors[code]] : [])])],
    needsAdvice: isBare,
    isMute: isBare && errors[code] === undefined
  }
}

function peerRows(judged: readonly Judged[], refusals: readonly string[], { peers }: Advice): readonly PeerRow[] {
  const costs = new Map<string, Set<string>>(refusals.map((code) => [code, new Set([COSTS.refused])]))
  for (const { code, verdict } of judged) {
    const row = refusalOf(code, refusals) ?? code
    // What is refused has cost the exchange already.
    if (row !== code && verdict === 'failed') continue
    costs.set(row, (costs.get(row) ?? new Set()).add(COSTS[verdict]))
  }
  return sorted([...costs.keys()]).map((code) => ({
    code,
    costs: [...costs.get(code)!].sort().join(', '),
    means: peers[code]?.means ?? '',
    advice: peers[code]?.do ?? '',
    isMute: peers[code] === undefined
  }))
}

/** What each kind of judgement costs. */
const COSTS = {
  reject: 'a strike',
  ignore: 'nothing',
  failed: 'the attempt',
  refused: 'the exchange'
} as const
