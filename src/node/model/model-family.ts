import type { Graph } from '../../onnx/graph/graph.js'

/** Module paths that give a family away, the particular before the general. */
const FAMILIES: readonly (readonly [string, RegExp])[] = [
  ['DistilBERT', /^distilbert\./],
  ['RoBERTa', /^roberta\./],
  ['ALBERT', /^albert\./],
  ['ELECTRA', /^electra\./],
  ['BERT', /^bert\.|^encoder\.layer\.\d+\.attention\.self\./],
  ['GPT-NeoX', /^gpt_neox\./],
  ['GPT-2', /^(transformer\.)?h\.\d+\.attn\.c_attn/],
  ['OPT', /^(model\.)?decoder\.layers\.\d+\.(self_attn|fc1)/],
  ['Whisper', /^(model\.)?encoder\.(layers\.\d+\.self_attn|conv1)/],
  ['Qwen3', /layers\.\d+\.self_attn\.q_norm/],
  ['Phi-3', /layers\.\d+\.(self_attn\.qkv_proj|mlp\.gate_up_proj)/],
  ['Gemma', /layers\.\d+\.pre_feedforward_layernorm/],
  ['Phi', /layers\.\d+\.self_attn\.dense/],
  ['Llama, Mistral or Qwen2', /layers\.\d+\.self_attn\.q_proj.*|layers\.\d+\.mlp\.gate_proj/],
  ['DeiT', /^deit\./],
  ['Swin', /^swin\./],
  ['ConvNeXt', /^convnext\./],
  ['ViT', /^vit\./],
  ['CLIP', /(text|vision)_model\.encoder\.layers/],
  ['T5', /encoder\.block\.\d+\.layer\.\d+\.SelfAttention/]
]

/** A guess from module paths; undefined where none of them says anything. */
export const familyOf = (modules: readonly string[]): string | undefined =>
  FAMILIES.find(([, pattern]) => modules.some((module) => pattern.test(module)))?.[0]

/** Who wrote the file, from how its nodes are named. */
export function exporterOf({ nodes }: Pick<Graph, 'nodes'>): string {
  if (nodes.some(({ domain }) => domain === 'com.microsoft')) return 'an optimiser of onnxruntime'
  if (nodes.some(({ name }) => name.startsWith('/'))) return "PyTorch's TorchScript exporter"
  if (nodes.some(({ module }) => module !== undefined)) return "PyTorch's dynamo exporter"
  return 'unknown'
}
