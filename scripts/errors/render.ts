import { REJECTS_BEFORE_BAN } from '../../src/node/peers/refusal-book.js'
import type { ErrorRow, PeerRow, Tables } from './tables.js'

/** docs/errors.md. */
export const renderTables = ({ errors, peers }: Tables): string =>
  `# Error codes

Made by \`npm run docs:errors\` from the sources and from \`scripts/errors/advice.yaml\`, which has what the sources do not say
themselves: change those, never this file.

## Errors

What ends a command is one sentence on standard error, \`error: WHAT (WHAT TO DO)\`; with \`PEERTUNE_LOG_LEVEL=debug\` the stack follows. In logs and on the
status page the code stands beside the sentence. What stands between ‹ › is filled in. Exit code 2 means that something of the operator's is to
be put right: a flag, a configuration, a federation, a model. 1 is everything else. The word before the slash is the folder of \`src\` that
it comes from, or \`config\` for whatever the operator has written.

${table(['code', 'exit', 'sentence', 'what to do'], errors.map(errorCells))}

## Verdicts and refusals

A peer never makes a node fail: what it sends is judged, and counted by one of these codes in \`refusals\` of the status and in
\`peertune_refusals_total\` of \`/metrics\`. A refusal code, the ones without a slash, is counted as \`told/CODE\` where this node has refused an
exchange and as \`heard/CODE\` where a partner has; attempts that ended so count as \`exchange/CODE\` or \`state/CODE\`, in
\`exchanges.failures\`. Of a broadcast every judgement is also counted as \`judged/CODE\`. Codes of the first table that begin with
\`gossip/\` end attempts, too. The word before the slash is a folder of \`src\`, or what was said: \`announcement\`, \`broadcast\`,
\`exchange\`, \`hello\` or \`state\`.

A strike is a broken rule; after ${REJECTS_BEFORE_BAN} of them the peer is turned away for ten minutes. What costs nothing is nobody's fault.

${table(['code', 'costs', 'what happened', 'what to do'], peers.map(peerCells))}
`

function errorCells({ code, exit, sentences, advice }: ErrorRow): readonly string[] {
  return [`\`${code}\``, String(exit), sentences.join('<br>'), advice.join('<br>')]
}

const peerCells = ({ code, costs, means, advice }: PeerRow): readonly string[] => [`\`${code}\``, costs, means, advice]

const table = (head: readonly string[], rows: readonly (readonly string[])[]): string =>
  [head, head.map(() => '---'), ...rows].map((cells) => `| ${cells.map(escaped).join(' | ')} |`).join('\n')

const escaped = (text: string): string => text.replaceAll('|', '\\|')
