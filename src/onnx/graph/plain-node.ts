import type { Node } from './graph.js'

/** A node of the standard domain with one output, under that output's name. */
export const plainNode = (
  op: string,
  inputs: readonly string[],
  output: string,
  attributes: Node['attributes'] = {}
): Node => ({ op, domain: '', name: output, inputs, outputs: [output], attributes })
