import { PROMPT } from '../files/adapter-keys.js'
import { PeertuneError } from '../../base/errors.js'
import { seededRng } from '../../base/rng.js'
import { rewriteGraph } from '../../onnx/graph/rewrite.js'
import type { Weight } from '../../onnx/graph/weight.js'
import type { Adapter, BaseModel } from '../method/method.js'
import { int, withTensors } from '../rewrite/rewrite-linear.js'
import { TOKENS } from '../rewrite/virtual-tokens.js'

export interface PromptOptions {
  readonly tokens: number
  readonly base: BaseModel
  readonly seed: string
}

/**
 * Prompt tuning (Lester et al. 2021, https://arxiv.org/abs/2104.08691): trained embeddings in front of those of the
 * text. Additive.
 *
 * `prompt_embeddings` float32[tokens, hidden]. Starts at the embeddings of tokens drawn from the vocabulary (section 3.2
 * of the paper), so not as the base model. The network is nonlinear in the prompt, but prompts do not multiply each
 * other: the mean of two peers' prompts is a prompt, and mixing has no cross term.
 */
export function createPrompt({ tokens, base, seed }: PromptOptions): Adapter {
  const table = tokenTable(base)
  const hidden = table.initializer.shape[1] as number
  const tensors = [{ name: PROMPT, shape: [tokens, hidden], initial: drawn(table, { tokens, base, seed }) }]
  return {
    tensors,
    virtualTokens: tokens,
    rewrite: (graph) =>
      rewriteGraph(withTensors(graph, tensors), (node, context) => {
        const [data = '', indices = ''] = node.inputs
        const output = node.outputs[0] as string
        if (node.op !== 'Gather' || data !== table.name || indices !== `${TOKENS}.extended`) return false
        const [rows = 0, long = 0] = context.shapeOf(output)
        const embedded = context.emit({
          ...node,
          inputs: [data, TOKENS],
          shape: [rows, long - tokens, hidden],
          outputs: [context.fresh('embedded')]
        })
        const expanded = context.emit({
          op: 'Expand',
          inputs: [PROMPT, context.ints([rows, tokens, hidden])],
          shape: [rows, tokens, hidden]
        })
        context.emit({
          op: 'Concat',
          inputs: [expanded, embedded],
          attributes: { axis: int(1) },
          outputs: [output],
          shape: [rows, long, hidden]
        })
        return true
      })
  }
}

/** What exporters put between the tokens and their look-up; gone in canonical graphs. */
const PASSING: ReadonlySet<string> = new Set(['Reshape', 'Cast', 'Identity', 'Squeeze', 'Unsqueeze', 'Flatten'])

/** The embedding table that the tokens index. Throws `config/no-tokens`. */
function tokenTable({ graph, weights }: BaseModel): Weight {
  const producers = new Map(graph.nodes.map((node) => [node.outputs[0] as string, node]))
  const sourceOf = (value: string): string => {
    const node = producers.get(value)
    return node !== undefined && PASSING.has(node.op) ? sourceOf(node.inputs[0] as string) : value
  }
  const gather = graph.nodes.find(({ op, inputs }) => op === 'Gather' && sourceOf(inputs[1] as string) === TOKENS)
  const table = weights.get(gather?.inputs[0] ?? '')
  if (table !== undefined) return table
  throw new PeertuneError('config/no-tokens', `the model looks up no embeddings by ${TOKENS}`, {
    facts: { inputs: graph.inputs.map(({ name }) => name) },
    hint: 'choose another method for this model'
  })
}

/** Rows of the table, the same on every peer. */
function drawn(table: Weight, { tokens, base, seed }: PromptOptions): Float32Array {
  const [vocabulary = 1, hidden = 0] = table.initializer.shape
  const values = base.read(table.initializer)
  const rng = seededRng(seed, 'prompt')
  const prompt = new Float32Array(tokens * hidden)
  for (let token = 0; token < tokens; token++) {
    const row = rng.integer(vocabulary) * hidden
    prompt.set(values.subarray(row, row + hidden), token * hidden)
  }
  return prompt
}
