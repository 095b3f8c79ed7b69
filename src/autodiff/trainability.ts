import { PeertuneError } from '../base/errors.js'
import type { Graph, Node } from '../onnx/graph/graph.js'
import { activeValues, ancestorsOf, hasNoRule } from './activity.js'
import { createEmitter } from './emit.js'
import { createOps, type Ops } from './ops.js'
import { RULES, ruleKey } from './rules.js'

/** A node that gradients cannot pass. */
export interface BlockedNode {
  /** As the exporter named it. */
  readonly node: string
  readonly op: string
  /** Hugging Face module path, '' where the exporter left none. */
  readonly module: string
  readonly reason: string
}

export interface Trainability {
  /** The parameters whose gradient can be computed, in the order given. */
  readonly trainable: readonly string[]
  /** What stands between the others and the outputs, in graph order. */
  readonly blocked: readonly BlockedNode[]
}

/**
 * Which of `parameters` (inputs, initializers or other values of a canonical graph) can be trained against the graph's
 * outputs, and which nodes are in the way of the others. Derives every node once on a copy, so a form of an op that its
 * rule does not cover counts too. A parameter that no output depends on is neither.
 */
export function trainability(graph: Graph, parameters: readonly string[]): Trainability {
  const op = createOps(createEmitter(graph))
  const active = activeValues(graph.nodes, { parameters, typeOf: op.type })
  const outputs = graph.outputs.map(({ name }) => name)
  const reasons = new Map<Node, string>()
  for (const node of ancestorsOf(graph.nodes, outputs)) {
    if (RULES[ruleKey(node)] === null || !node.inputs.some((input) => active.has(input))) continue
    const reason = reasonAgainst(node, op, active)
    if (reason !== undefined) reasons.set(node, reason)
  }
  const { reached, stopped } = walkBack(graph.nodes, { active, outputs, isBlocked: (node) => reasons.has(node) })
  return {
    trainable: parameters.filter((name) => reached.has(name) && !stopped.has(name)),
    blocked: graph.nodes.flatMap((node) => {
      const reason = reasons.get(node)
      const { name, op: kind, domain, module = '' } = node
      return reason === undefined
        ? []
        : [{ node: name, op: domain === '' ? kind : `${domain}.${kind}`, module, reason }]
    })
  }
}

function reasonAgainst(node: Node, op: Ops, active: ReadonlySet<string>): string | undefined {
  if (hasNoRule(node)) return `no derivative of ${node.op} is known; a rule in src/autodiff/rules would be needed`
  const dOs = node.outputs.map((output) => (active.has(output) ? op.zeros(op.emitter.typeOf(output)) : undefined))
  if (dOs.every((dO) => dO === undefined)) return undefined
  const context = { op, node, I: node.inputs, O: node.outputs, dO: dOs[0] ?? '', dOs }
  try {
    const rule = RULES[ruleKey(node)]
    const derivatives = rule?.({ ...context, consumersOf: () => [], cotangentOf: () => undefined }) ?? []
    for (const [index, derivative] of derivatives.entries()) if (active.has(node.inputs[index] ?? '')) derivative?.()
    return undefined
  } catch (error) {
    if (error instanceof PeertuneError && error.code.startsWith('autodiff/')) return error.message
    throw error
  }
}

interface WalkOptions {
  readonly active: ReadonlySet<string>
  readonly outputs: readonly string[]
  readonly isBlocked: (node: Node) => boolean
}

/** Active values that an output depends on, and those of them that do so through a blocked node. */
function walkBack(nodes: readonly Node[], { active, outputs, isBlocked }: WalkOptions) {
  const reached = new Set(outputs)
  const stopped = new Set<string>()
  for (const node of nodes.toReversed()) {
    const made = node.outputs.filter((output) => reached.has(output))
    const passes = made.some((output) => active.has(output))
    if (made.length === 0 || (!passes && !isBlocked(node))) continue
    const isStopped = isBlocked(node) || made.some((output) => stopped.has(output))
    for (const input of node.inputs.filter((name) => active.has(name))) {
      reached.add(input)
      if (isStopped) stopped.add(input)
    }
  }
  return { reached, stopped }
}
