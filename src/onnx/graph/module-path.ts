/** Key under which PyTorch's dynamo exporter lists the modules around a node, outermost first, the node itself last. */
const NAME_SCOPES = 'pkg.torch.onnx.name_scopes'

/** What that exporter writes for a node that belongs to no module (shape arithmetic). */
const NO_MODULE = '_empty_nn_module_stack'

/**
 * Hugging Face module path of a node, where the exporter left one: the dynamo exporter's metadata, or the TorchScript
 * exporter's node name (`/bert/encoder/layer.0/attention/self/query/MatMul`). Graphs written by hand get module paths
 * by naming their nodes in the second way.
 */
export function moduleOf(nodeName: string, metadata: ReadonlyMap<string, string>): string | undefined {
  const scopes = metadata.get(NAME_SCOPES)
  if (scopes !== undefined) return lastModule(scopes)
  if (!nodeName.startsWith('/')) return undefined
  return nodeName.slice(1).split('/').slice(0, -1).join('.')
}

/** The metadata is a Python list of strings: ['', 'bert', 'bert.encoder', 'linear_3']. */
function lastModule(scopes: string): string | undefined {
  const names = Array.from(scopes.matchAll(/'([^']*)'|"([^"]*)"/g), (match) => match[1] ?? match[2] ?? '')
  const module = names.at(-2)
  return module?.startsWith(NO_MODULE) ? undefined : module
}

/**
 * The name that a wrapper module puts in front of every path (`m.` when a model was exported as `self.m`): the first
 * segments common to all paths. A Hugging Face model has none, as its head stands beside its body.
 */
export function wrapperPrefix(paths: readonly string[]): string {
  if (paths.length === 0) return ''
  const split = paths.map((path) => path.split('.'))
  const shortest = Math.min(...split.map((segments) => segments.length))
  const first = split[0] ?? []
  let common = 0
  while (common < shortest - 1 && split.every((segments) => segments[common] === first[common])) common++
  return first
    .slice(0, common)
    .map((segment) => `${segment}.`)
    .join('')
}
