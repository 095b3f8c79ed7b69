import { type FederationManifest, federationHash, type TaskSpec } from '../../base/federation.js'
import { specsOf } from '../../base/peft-spec.js'
import type { NodeState } from '../../checkpoint/state.js'
import type { HubOrigin } from '../../hub/reference.js'
import type { DatasetEvaluation } from '../../train/evaluate.js'
import type { TrainingConfig } from '../config/schema.js'
import type { Partners } from '../peers/partners.js'
import { printYaml } from '../host/yaml-file.js'

export interface CardFacts {
  readonly manifest: FederationManifest
  readonly parameters: number
  /** Of the checkpoint that was exported. */
  readonly state: Pick<NodeState, 'step' | 'exchanges' | 'bytesSent' | 'bytesReceived'>
  /** How this peer trained. */
  readonly training: Pick<TrainingConfig, 'batchSize' | 'learningRate' | 'schedule'>
  /** Those it mixed with; unknown for nodes of old. */
  readonly partners?: Partners | undefined
  /** The base model, where it came from the Hugging Face hub. */
  readonly origin?: HubOrigin | undefined
  /** The base model's, where it says. */
  readonly license?: string | undefined
  /** Training examples of this peer. */
  readonly samples?: number
  readonly evaluation?: DatasetEvaluation
  readonly isPeft: boolean
}

type Rows = readonly (readonly [string, string])[]

/**
 * README.md of an exported adapter: what it is, how it was trained, by how many and how well it does. The front matter
 * is that of the Hugging Face hub (https://huggingface.co/docs/hub/model-cards#model-card-metadata).
 */
export function modelCard(facts: CardFacts): string {
  const { manifest } = facts
  const labels =
    'labels' in manifest.task ? ['', `Labels, in the order of the logits: ${manifest.task.labels.join(', ')}.`] : []
  return [
    '---',
    printYaml(frontMatter(facts)).trimEnd(),
    '---',
    '',
    `# ${manifest.name}`,
    '',
    'Trained by peers that kept their data at home and averaged these parameters pair by pair, without a server.',
    '',
    '| | |',
    '|---|---|',
    ...[...whatRows(facts), ...trainingRows(facts), ...dataRows(facts)].map(
      ([name, value]) => `| ${name} | ${value} |`
    ),
    ...labels,
    ''
  ].join('\n')
}

/** The hub's own words for tasks. */
const PIPELINES: Readonly<Record<TaskSpec['kind'], string>> = {
  'causal-lm': 'text-generation',
  'instruction-tuning': 'text-generation',
  'sequence-classification': 'text-classification',
  'token-classification': 'token-classification',
  'image-classification': 'image-classification',
  regression: 'text-classification'
}

function frontMatter({ manifest, isPeft, origin, license, evaluation }: CardFacts): Readonly<Record<string, unknown>> {
  const pipeline = PIPELINES[manifest.task.kind]
  const methods = specsOf(manifest.peft).map(({ method }) => method)
  return {
    ...(isPeft && { library_name: 'peft' }),
    ...(origin !== undefined && { base_model: origin.repo, base_model_relation: 'adapter' }),
    ...(license !== undefined && { license }),
    pipeline_tag: pipeline,
    tags: [...new Set(['peertune', 'federated-learning', 'peer-to-peer', ...methods])],
    ...(evaluation !== undefined && { 'model-index': [resultsOf(manifest, pipeline, evaluation)] })
  }
}

/** Results in the form that the hub shows beside a model. */
const resultsOf = ({ name }: FederationManifest, pipeline: string, evaluation: DatasetEvaluation) => ({
  name,
  results: [
    {
      task: { type: pipeline },
      dataset: { name: 'held-out examples of this peer', type: 'private' },
      metrics: metricsOf(evaluation)
    }
  ]
})

const metricsOf = ({ loss, accuracy, correlation }: DatasetEvaluation) =>
  correlation === undefined
    ? [
        { type: 'loss', value: rounded(loss), name: 'cross entropy, nats' },
        { type: 'accuracy', value: rounded(accuracy), name: 'accuracy' }
      ]
    : [
        { type: 'mse', value: rounded(loss), name: 'mean squared error' },
        { type: 'pearsonr', value: rounded(correlation), name: 'correlation' }
      ]

const rounded = (value: number): number => Number(value.toPrecision(6))

const whatRows = ({ manifest, parameters, origin, license }: CardFacts): Rows => [
  ['federation', `${manifest.name} (\`${federationHash(manifest)}\`)`],
  ...(origin === undefined
    ? []
    : ([['base model', `[${origin.repo}](https://huggingface.co/${origin.repo}), commit \`${origin.sha}\``]] as const)),
  ['base model, ONNX', `SHA-256 \`${manifest.model.sha256}\``],
  ...(license === undefined ? [] : ([['licence of the base model', license]] as const)),
  ['task', manifest.task.kind],
  [
    'method',
    specsOf(manifest.peft)
      .map(({ method }) => method)
      .join(' and ')
  ],
  ['parameters', `${parameters}`]
]

const trainingRows = ({ manifest, state, training }: CardFacts): Rows => [
  ['local steps of this peer', `${state.step}, ${training.batchSize} examples each`],
  ['learning rate', `${training.learningRate}, ${training.schedule}`],
  ['exchanges with other peers', `${state.exchanges}`],
  ['bytes sent and received', `${state.bytesSent} and ${state.bytesReceived}`],
  ['mixing', `every ${manifest.mixing.localSteps} steps, ${manifest.mixing.codec}`]
]

const dataRows = ({ partners, samples, evaluation }: CardFacts): Rows => [
  ...(partners === undefined ? [] : ([['peers it mixed with', `${partners.peers}`]] as const)),
  ...(samples === undefined ? [] : ([['training examples of this peer', `${samples}`]] as const)),
  ...(partners === undefined
    ? []
    : ([['training examples of those peers, as they say', `${partners.samples}`]] as const)),
  ...(evaluation === undefined ? [] : evaluationRows(evaluation))
]

const evaluationRows = ({ loss, accuracy, correlation, count }: DatasetEvaluation): Rows =>
  correlation === undefined
    ? [
        ['loss on held-out examples of this peer', `${loss.toFixed(4)} nats`],
        ['accuracy there', `${(100 * accuracy).toFixed(2)} % of ${count} labels`]
      ]
    : [
        ['mean squared error on held-out examples of this peer', loss.toFixed(4)],
        ['correlation of predictions and labels there', `${correlation.toFixed(4)} over ${count} labels`]
      ]
