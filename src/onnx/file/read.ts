import { readFile, stat } from 'node:fs/promises'
import { basename } from 'node:path'
import { fromBinary } from '@bufbuild/protobuf'
import { PeertuneError } from '../../base/errors.js'
import { shapeSize } from '../../tensor/schema.js'
import { bytesOfElements, elementTypeOf } from '../graph/element-type.js'
import type { Attribute, Dim, Graph, Initializer, Node, ValueInfo } from '../graph/graph.js'
import { moduleOf } from '../graph/module-path.js'
import {
  type AttributeProto,
  type ModelProto,
  ModelProtoSchema,
  type NodeProto,
  type TensorProto,
  type ValueInfoProto
} from '../graph/onnx_pb.js'
import { rawBytesOf } from '../graph/tensor-data.js'
import { ATTRIBUTE_TYPE, EXTERNAL_LOCATION } from './write.js'

/** Bytes. Protobuf's own limit, and the most that `readFile` returns; bigger models keep their weights in another file. */
export const MAX_MODEL_FILE_BYTES = 2 ** 31 - 1

const notAModel = (file: string, detail: string, cause?: unknown): PeertuneError =>
  new PeertuneError('onnx/not-a-model', `${file} is no ONNX model: ${detail}`, {
    facts: { file },
    hint: 'give the path of a .onnx file written by an exporter, whole',
    cause
  })

const unsupported = (file: string, what: string, names: readonly string[]): PeertuneError =>
  new PeertuneError('onnx/unsupported-feature', `${file} has ${what}: ${names.slice(0, 5).join(', ')}`, {
    facts: { file, what, names },
    hint: 'export the model for inference with a standard opset (13 or later), without control flow and functions'
  })

/** Throws `onnx/not-a-model`, `onnx/too-large` or `onnx/unsupported-feature`, each naming the file. */
export async function readModel(path: string): Promise<Graph> {
  const { size } = await stat(path).catch((cause: unknown) => {
    throw notAModel(path, 'it cannot be opened', cause)
  })
  if (size > MAX_MODEL_FILE_BYTES)
    throw new PeertuneError('onnx/too-large', `${path} has ${size} bytes`, {
      facts: { path, size, limit: MAX_MODEL_FILE_BYTES },
      hint: 'export with external data, so that the weights lie in a file beside the model'
    })
  const bytes = await readFile(path).catch((cause: unknown) => {
    throw notAModel(path, 'it cannot be read', cause)
  })
  return parseModel(bytes, basename(path))
}

/** Bytes of an ONNX ModelProto -> Graph. Weights are views of `bytes`, not copies. Errors as `readModel`. */
export function parseModel(bytes: Uint8Array, file = 'model bytes'): Graph {
  const model = decode(bytes, file)
  const graph = model.graph
  if (graph === undefined || graph.node.length === 0 || model.opsetImport.length === 0)
    throw notAModel(file, 'it has no graph')
  if (model.functions.length > 0)
    throw unsupported(
      file,
      'model-local functions',
      model.functions.map(({ name }) => name)
    )
  if (graph.sparseInitializer.length > 0)
    throw unsupported(file, 'sparse initializers', [`${graph.sparseInitializer.length} of them`])

  const initializers = new Map(graph.initializer.map((tensor) => [tensor.name, readTensor(tensor, file)]))
  const inputs = graph.input.filter(({ name }) => !initializers.has(name)).map((info) => readInput(info, file))
  const outputs = graph.output.map(readOutput)
  const intermediates = graph.valueInfo.filter((info) => info.type?.value.case === 'tensorType').map(readValueInfo)
  const constants = Array.from(initializers.values(), ({ name, type, shape }) => ({ name, type, shape }))
  return {
    name: graph.name,
    opsets: readOpsets(model),
    inputs,
    outputs,
    nodes: graph.node.map((node) => readNode(node, file)),
    initializers,
    values: new Map([...intermediates, ...constants, ...inputs, ...outputs].map((value) => [value.name, value]))
  }
}

function decode(bytes: Uint8Array, file: string): ModelProto {
  if (bytes.length === 0) throw notAModel(file, 'it is empty')
  try {
    return fromBinary(ModelProtoSchema, bytes)
  } catch (cause) {
    throw notAModel(file, 'it is truncated or something else', cause)
  }
}

function readOpsets(model: ModelProto): Record<string, number> {
  const opsets: Record<string, number> = {}
  for (const { domain, version } of model.opsetImport) opsets[domain === 'ai.onnx' ? '' : domain] = Number(version)
  return opsets
}

function readNode(node: NodeProto, file: string): Node {
  const module = moduleOf(node.name, new Map(node.metadataProps.map(({ key, value }) => [key, value])))
  return {
    op: node.opType,
    domain: node.domain === 'ai.onnx' ? '' : node.domain,
    name: node.name,
    inputs: node.input,
    outputs: node.output,
    attributes: Object.fromEntries(node.attribute.map((a) => [a.name, readAttribute(a, node, file)])),
    ...(module === undefined ? {} : { module })
  }
}

const text = new TextDecoder()

function readAttribute(attribute: AttributeProto, node: NodeProto, file: string): Attribute {
  switch (attribute.type) {
    case ATTRIBUTE_TYPE.float:
      return { type: 'float', value: attribute.f }
    case ATTRIBUTE_TYPE.int:
      return { type: 'int', value: Number(attribute.i) }
    case ATTRIBUTE_TYPE.string:
      return { type: 'string', value: text.decode(attribute.s) }
    case ATTRIBUTE_TYPE.floats:
      return { type: 'floats', value: attribute.floats }
    case ATTRIBUTE_TYPE.ints:
      return { type: 'ints', value: attribute.ints.map(Number) }
    case ATTRIBUTE_TYPE.strings:
      return { type: 'strings', value: attribute.strings.map((bytes) => text.decode(bytes)) }
    case ATTRIBUTE_TYPE.tensor:
      if (attribute.t !== undefined) return { type: 'tensor', value: readTensor(attribute.t, file) }
  }
  throw unsupported(file, `attribute ${attribute.name} of type number ${attribute.type} (a subgraph, say)`, [
    `${node.opType} ${node.name}`
  ])
}

function readTensor(tensor: TensorProto, file: string): Initializer {
  const { name } = tensor
  const type = elementTypeOf(tensor.dataType, name)
  const shape = tensor.dims.map(Number)
  if (tensor.dataLocation !== EXTERNAL_LOCATION)
    return {
      name,
      type,
      shape,
      data: { kind: 'inline', bytes: rawBytesOf(tensor, { type, count: shapeSize(shape) }, file) }
    }
  const entries = new Map(tensor.externalData.map(({ key, value }) => [key, value]))
  const location = entries.get('location')
  if (location === undefined) throw notAModel(file, `external tensor ${name} names no file`)
  const length = Number(entries.get('length') ?? bytesOfElements(type, shapeSize(shape)))
  return { name, type, shape, data: { kind: 'external', location, offset: Number(entries.get('offset') ?? 0), length } }
}

/** Of what a batch must fill, the number of axes has to be known. */
function readInput(info: ValueInfoProto, file: string): ValueInfo {
  const tensor = info.type?.value
  if (tensor?.case === 'tensorType' && tensor.value.shape === undefined)
    throw unsupported(file, 'an input without a shape, where a fixed number of axes is expected', [info.name])
  return readValueInfo(info)
}

/** One without a type gets its true one when the graph is specialised (see specialise.ts). */
const readOutput = (info: ValueInfoProto): ValueInfo =>
  info.type?.value.case === undefined ? { name: info.name, type: 'float32', shape: [] } : readValueInfo(info)

function readValueInfo({ name, type }: ValueInfoProto): ValueInfo {
  if (type?.value.case !== 'tensorType')
    throw new PeertuneError('onnx/not-a-tensor', `${name} is no tensor`, { facts: { name } })
  const { elemType, shape } = type.value.value
  const dims = (shape?.dim ?? []).map(({ value }, axis): Dim => {
    if (value.case === 'dimValue') return Number(value.value)
    return value.case === 'dimParam' && value.value !== '' ? value.value : `${name}_${axis}`
  })
  return { name, type: elementTypeOf(elemType, name), shape: dims }
}
