import type { ElementType, Node } from '../onnx/graph/graph.js'
import { RULES, ruleKey } from './rules.js'

const FLOATING: ReadonlySet<ElementType> = new Set<ElementType>(['float32', 'float64', 'float16'])

export interface ActivityOptions {
  readonly parameters: readonly string[]
  readonly typeOf: (value: string) => ElementType
  /** Values that no gradient flows through, whatever they are made of. */
  readonly constants?: ReadonlySet<string>
}

/** Every floating-point value that depends smoothly on a parameter. */
export function activeValues(
  nodes: readonly Node[],
  { parameters, typeOf, constants = new Set() }: ActivityOptions
): ReadonlySet<string> {
  const active = new Set(parameters)
  for (const node of nodes) {
    if (RULES[ruleKey(node)] === null || !node.inputs.some((input) => active.has(input))) continue
    for (const output of node.outputs)
      if (output !== '' && !constants.has(output) && FLOATING.has(typeOf(output))) active.add(output)
  }
  return active
}

/** The nodes that `values` are computed by. */
export function ancestorsOf(nodes: readonly Node[], values: Iterable<string>): ReadonlySet<Node> {
  const needed = new Set(values)
  const ancestors = new Set<Node>()
  for (const node of nodes.toReversed()) {
    if (!node.outputs.some((output) => needed.has(output))) continue
    ancestors.add(node)
    for (const input of node.inputs) needed.add(input)
  }
  return ancestors
}

/** Whether nobody has thought of the node's op, as opposed to one that no gradient flows through. */
export const hasNoRule = (node: Node): boolean => RULES[ruleKey(node)] === undefined
