import { PeertuneError } from '../base/errors.js'
import type { Graph, Node } from '../onnx/graph/graph.js'
import { activeValues, ancestorsOf, hasNoRule } from './activity.js'
import { createEmitter } from './emit.js'
import { createOps, type Ops } from './ops.js'
import { collectPieces } from './pieces.js'
import type { Cotangent, Rule } from './rule.js'
import { RULES, ruleKey } from './rules.js'
import { unbroadcast } from './unbroadcast.js'

export interface DifferentiateOptions {
  /** Name of the scalar to differentiate. */
  readonly loss: string
  /** Names of the graph inputs (or other values) to differentiate by. */
  readonly parameters: readonly string[]
  /**
   * Known cotangents to start from, by value: d loss / d value under a name already in the graph. By default the walk
   * starts at the loss with 1; a loss with a closed-form derivative (loss.ts) starts further up.
   */
  readonly seeds?: ReadonlyMap<string, string>
  /** Values that no gradient flows through, whatever they are made of. */
  readonly constants?: readonly string[]
  /** Further values to return, behind the gradients. */
  readonly keep?: readonly string[]
}

/** Output that holds d loss / d parameter. */
export const gradientName = (parameter: string): string => `${parameter}.grad`

/** Ops whose outputs beyond the first carry cotangents; of all others those are statistics. */
const MANY_OUTPUTS: ReadonlySet<string> = new Set(['Split'])

/**
 * Reverse-mode differentiation of a graph of static shapes: the forward nodes that the loss and the gradients need, then
 * one walk over them in reverse. Outputs: the loss, then `gradientName(p)` of every parameter in the order given, of the
 * parameter's own shape (zeros where the loss does not depend on it). The walk stops where nothing depends on a
 * parameter, so adapters in the upper layers alone have a short backward pass.
 *
 * Throws `autodiff/no-rule`, naming node, op and module, if an op between a parameter and the loss has no derivative.
 */
export function differentiate(
  graph: Graph,
  { loss, parameters, seeds, constants = [], keep = [] }: DifferentiateOptions
): Graph {
  const op = createOps(createEmitter(graph))
  const active = activeValues(graph.nodes, { parameters, typeOf: op.type, constants: new Set(constants) })
  refuseUnknownOps(ancestorsOf(graph.nodes, seeds?.keys() ?? [loss]), active)
  const consumers = consumersByValue(graph.nodes)
  const consumersOf = (value: string): readonly Node[] => consumers.get(value) ?? []
  const cotangents = new Map<string, Cotangent[]>()
  for (const [value, cotangent] of seeds ?? [[loss, unitCotangent(op, loss)]]) cotangents.set(value, [cotangent])

  /** Sum of what has arrived at `value`; undefined if nothing has. */
  const read = (value: string): string | undefined => {
    const arrived = cotangents.get(value)
    if (arrived === undefined) return undefined
    const total = collectPieces(op, arrived, op.emitter.typeOf(value)).reduce((sum, term) => op.add(sum, term))
    cotangents.set(value, [total])
    return total
  }
  const write = (value: string, cotangent: Cotangent): void => {
    const whole = typeof cotangent === 'string' ? unbroadcast(op, cotangent, op.shape(value)) : cotangent
    cotangents.set(value, [...(cotangents.get(value) ?? []), whole])
  }

  for (const node of graph.nodes.toReversed()) {
    if (!node.inputs.some((input) => active.has(input))) continue
    const dOs = node.outputs.map((output) => (active.has(output) ? read(output) : undefined))
    if (dOs.every((dO) => dO === undefined)) continue
    const rule = ruleFor(node, dOs)
    const context = { op, node, I: node.inputs, O: node.outputs, dO: dOs[0] ?? '', dOs, consumersOf, cotangentOf: read }
    for (const [index, derivative] of rule(context).entries()) {
      const input = node.inputs[index]
      if (input === undefined || derivative === undefined || !active.has(input)) continue
      write(input, derivative())
    }
  }
  const gradients = parameters.map((name) => named(op, name, read(name)))
  return op.emitter.finish([loss, ...gradients, ...keep])
}

function consumersByValue(nodes: readonly Node[]): ReadonlyMap<string, readonly Node[]> {
  const consumers = new Map<string, Node[]>()
  for (const node of nodes)
    for (const input of new Set(node.inputs)) {
      const known = consumers.get(input)
      if (known === undefined) consumers.set(input, [node])
      else known.push(node)
    }
  return consumers
}

/** Also those that make integers, as quantisation does: a gradient would end there without a word. */
function refuseUnknownOps(nodes: ReadonlySet<Node>, active: ReadonlySet<string>): void {
  for (const node of nodes)
    if (hasNoRule(node) && node.inputs.some((input) => active.has(input))) throw noRule(node, '')
}

function ruleFor(node: Node, dOs: readonly (string | undefined)[]): Rule {
  const key = ruleKey(node)
  const rule = RULES[key]
  const extra = dOs.findIndex((cotangent, index) => index > 0 && cotangent !== undefined)
  if (!rule) throw noRule(node, '')
  if (extra > 0 && !MANY_OUTPUTS.has(key)) throw noRule(node, `output ${extra} of `)
  return rule
}

const noRule = ({ op, domain, name, module }: Node, part: string): PeertuneError =>
  new PeertuneError('autodiff/no-rule', `no derivative is known for ${part}${op} (node ${name || 'unnamed'})`, {
    facts: { op, domain, node: name, ...(module === undefined ? {} : { module }) },
    hint: 'train only layers above this node, or add a rule to src/autodiff/rules'
  })

function unitCotangent(op: Ops, loss: string): string {
  const { type, shape } = op.emitter.typeOf(loss)
  return op.expand(op.emitter.scalar(1, type), shape)
}

/** Gives a gradient the name its reader looks for. */
function named(op: Ops, parameter: string, gradient: string | undefined): string {
  const type = op.emitter.typeOf(parameter)
  return op.emitter.alias(gradient ?? op.zeros(type), gradientName(parameter))
}
