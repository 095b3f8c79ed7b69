import { type FederationManifest, federationHash } from '../base/federation.js'
import { specsOf } from '../base/peft-spec.js'
import type { NodeState } from '../checkpoint/state.js'
import type { DatasetEvaluation } from '../train/evaluate.js'

export interface CardFacts {
  readonly manifest: FederationManifest
  readonly parameters: number
  /** Of the checkpoint that was exported. */
  readonly state: Pick<NodeState, 'step' | 'exchanges' | 'bytesSent' | 'bytesReceived'>
  /** Training examples of this peer. */
  readonly samples?: number
  readonly evaluation?: DatasetEvaluation
  readonly isPeft: boolean
}

/** README.md of an exported adapter: what it is, how it was trained and how well it does. */
export function modelCard({ manifest, parameters, state, samples, evaluation, isPeft }: CardFacts): string {
  const methods = specsOf(manifest.peft).map(({ method }) => method)
  const rows = [
    ['federation', `${manifest.name} (\`${federationHash(manifest)}\`)`],
    ['base model', `ONNX, SHA-256 \`${manifest.model.sha256}\``],
    ['task', manifest.task.kind],
    ['method', methods.join(' and ')],
    ['parameters', `${parameters}`],
    ['local steps of this peer', `${state.step}`],
    ['exchanges with other peers', `${state.exchanges}`],
    ['bytes sent and received', `${state.bytesSent} and ${state.bytesReceived}`],
    ['mixing', `every ${manifest.mixing.localSteps} steps, ${manifest.mixing.codec}`],
    ...(samples === undefined ? [] : [['training examples of this peer', `${samples}`]]),
    ...(evaluation === undefined ? [] : evaluationRows(evaluation))
  ]
  const labels =
    'labels' in manifest.task ? ['', `Labels, in the order of the logits: ${manifest.task.labels.join(', ')}.`] : []
  return [
    '---',
    ...(isPeft ? ['library_name: peft'] : []),
    `tags: [federated-learning, peer-to-peer, ${methods.join(', ')}]`,
    '---',
    '',
    `# ${manifest.name}`,
    '',
    'Trained by peers that kept their data at home and averaged these parameters pair by pair, without a server.',
    '',
    '| | |',
    '|---|---|',
    ...rows.map(([name, value]) => `| ${name} | ${value} |`),
    ...labels,
    ''
  ].join('\n')
}

const evaluationRows = ({ loss, accuracy, correlation, count }: DatasetEvaluation): string[][] =>
  correlation === undefined
    ? classificationRows({ loss, accuracy, count })
    : [
        ['mean squared error on held-out examples of this peer', loss.toFixed(4)],
        ['correlation of predictions and labels there', `${correlation.toFixed(4)} over ${count} labels`]
      ]

const classificationRows = ({ loss, accuracy, count }: DatasetEvaluation): string[][] => [
  ['loss on held-out examples of this peer', `${loss.toFixed(4)} nats`],
  ['accuracy there', `${(100 * accuracy).toFixed(2)} % of ${count} labels`]
]
