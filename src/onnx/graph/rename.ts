import type { Graph } from './graph.js'

/**
 * Gives every intermediate value a fresh short name (`gemm_12`); graph inputs, outputs and the names in `keep` stay, and
 * so do the names of nodes, which error messages are about. The runtime can trip over names that an earlier run of
 * its own optimiser made ("attempt to replace the existing tensor").
 */
export function renameValues(graph: Graph, keep: ReadonlySet<string>): Graph {
  const names = new Map<string, string>()
  for (const { name } of [...graph.inputs, ...graph.outputs]) names.set(name, name)
  for (const name of graph.initializers.keys())
    if (!names.has(name)) names.set(name, keep.has(name) ? name : `constant_${names.size}`)
  for (const node of graph.nodes)
    for (const output of node.outputs)
      if (output !== '' && !names.has(output))
        names.set(output, keep.has(output) ? output : `${node.op.toLowerCase()}_${names.size}`)
  const renamed = (name: string): string => names.get(name) ?? name
  return {
    ...graph,
    nodes: graph.nodes.map((node) => ({
      ...node,
      inputs: node.inputs.map(renamed),
      outputs: node.outputs.map(renamed)
    })),
    initializers: new Map(
      Array.from(graph.initializers.values(), (constant) => {
        const name = renamed(constant.name)
        return [name, { ...constant, name }]
      })
    ),
    values: new Map(
      Array.from(graph.values.values(), (value) => {
        const name = renamed(value.name)
        return [name, { ...value, name }]
      })
    )
  }
}
