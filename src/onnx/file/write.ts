import { create, toBinary } from '@bufbuild/protobuf'
import { dataTypeOf } from '../graph/element-type.js'
import type { Attribute, Dim, Graph, Initializer, Node, ValueInfo } from '../graph/graph.js'
import {
  AttributeProtoSchema,
  type AttributeProto,
  ModelProtoSchema,
  type NodeProto,
  NodeProtoSchema,
  type TensorProto,
  TensorProtoSchema,
  type ValueInfoProto,
  ValueInfoProtoSchema
} from '../graph/onnx_pb.js'

/** ONNX `AttributeProto.AttributeType`. */
export const ATTRIBUTE_TYPE = { float: 1, int: 2, string: 3, tensor: 4, floats: 6, ints: 7, strings: 8 } as const

/** ONNX `TensorProto.DataLocation.EXTERNAL`. */
export const EXTERNAL_LOCATION = 1

/** First IR version with 4-bit tensors and node metadata; every opset up to 23 may ride on it. */
const IR_VERSION = 10n

const utf8 = new TextEncoder()

export interface WriteOptions {
  /** Further values to declare as outputs without a type; the runtime infers it (see canonicalise.ts). */
  readonly untypedOutputs?: readonly string[]
}

/**
 * Graph -> bytes of an ONNX ModelProto. External initializers stay references, so the bytes are kilobytes whatever the
 * weights weigh; `Node.module` is left out, as runtimes have no use for it.
 */
export function writeModel(graph: Graph, { untypedOutputs = [] }: WriteOptions = {}): Uint8Array {
  const taken = new Set<string>()
  const model = create(ModelProtoSchema, {
    irVersion: IR_VERSION,
    producerName: 'peertune',
    opsetImport: Object.entries(graph.opsets).map(([domain, version]) => ({ domain, version: BigInt(version) })),
    graph: {
      name: graph.name,
      node: graph.nodes.map((node) => writeNode(node, taken)),
      initializer: Array.from(graph.initializers.values(), writeInitializer),
      input: graph.inputs.map(writeValueInfo),
      output: [
        ...graph.outputs.map(writeValueInfo),
        ...untypedOutputs.map((name) => create(ValueInfoProtoSchema, { name }))
      ]
    }
  })
  return toBinary(ModelProtoSchema, model)
}

/** Runtimes want node names unique or empty; parts of one exported node share its name here. */
function writeNode(node: Node, taken: Set<string>): NodeProto {
  const name = taken.has(node.name) ? '' : node.name
  taken.add(node.name)
  return create(NodeProtoSchema, {
    opType: node.op,
    domain: node.domain,
    name,
    input: [...node.inputs],
    output: [...node.outputs],
    attribute: Object.entries(node.attributes).map(([name, attribute]) => writeAttribute(name, attribute))
  })
}

function writeAttribute(name: string, attribute: Attribute): AttributeProto {
  switch (attribute.type) {
    case 'int':
      return create(AttributeProtoSchema, { name, type: ATTRIBUTE_TYPE.int, i: BigInt(attribute.value) })
    case 'float':
      return create(AttributeProtoSchema, { name, type: ATTRIBUTE_TYPE.float, f: attribute.value })
    case 'string':
      return create(AttributeProtoSchema, { name, type: ATTRIBUTE_TYPE.string, s: utf8.encode(attribute.value) })
    case 'ints':
      return create(AttributeProtoSchema, { name, type: ATTRIBUTE_TYPE.ints, ints: attribute.value.map(BigInt) })
    case 'floats':
      return create(AttributeProtoSchema, { name, type: ATTRIBUTE_TYPE.floats, floats: [...attribute.value] })
    case 'strings':
      return create(AttributeProtoSchema, {
        name,
        type: ATTRIBUTE_TYPE.strings,
        strings: attribute.value.map((text) => utf8.encode(text))
      })
    case 'tensor':
      return create(AttributeProtoSchema, { name, type: ATTRIBUTE_TYPE.tensor, t: writeInitializer(attribute.value) })
  }
}

function writeInitializer({ name, type, shape, data }: Initializer): TensorProto {
  const tensor = create(TensorProtoSchema, { name, dataType: dataTypeOf(type), dims: shape.map(BigInt) })
  if (data.kind === 'inline') {
    tensor.rawData = data.bytes
    return tensor
  }
  tensor.dataLocation = EXTERNAL_LOCATION
  tensor.externalData = create(TensorProtoSchema, {
    externalData: [
      { key: 'location', value: data.location },
      { key: 'offset', value: String(data.offset) },
      { key: 'length', value: String(data.length) }
    ]
  }).externalData
  return tensor
}

const writeDim = (dim: Dim) =>
  typeof dim === 'number'
    ? { value: { case: 'dimValue' as const, value: BigInt(dim) } }
    : { value: { case: 'dimParam' as const, value: dim } }

const writeValueInfo = ({ name, type, shape }: ValueInfo): ValueInfoProto =>
  create(ValueInfoProtoSchema, {
    name,
    type: { value: { case: 'tensorType', value: { elemType: dataTypeOf(type), shape: { dim: shape.map(writeDim) } } } }
  })
