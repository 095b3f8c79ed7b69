import { describe, expect, it } from 'vitest'
import { differentiate } from '../../src/autodiff/backward.js'
import { trainability } from '../../src/autodiff/trainability.js'
import { floatConstant, intConstant } from '../../src/onnx/graph/constant.js'
import { int } from './gradient-check.js'
import { float32, graph, node } from './graphs.js'

/** y = relu(f(relu(x lower) middle) upper), with `f` an op of the caller's choice; `aside` goes nowhere. */
const layers = (op: string, attributes = {}) =>
  graph({
    inputs: [float32('x', 2, 3), ...['lower', 'middle', 'upper', 'aside'].map((name) => float32(name, 3))],
    outputs: [float32('y', 2, 3)],
    inner: ['a', 'b', 'c', 'd', 'e', 'unused'].map((name) => float32(name, 2, 3)),
    nodes: [
      node('Mul', ['x', 'lower'], 'a'),
      node('Relu', ['a'], 'b'),
      node(op, ['b'], 'c', attributes, 'encoder.layer.0.act'),
      node('Mul', ['c', 'middle'], 'd'),
      node('Mul', ['d', 'aside'], 'unused'),
      node('Relu', ['d'], 'e'),
      node('Mul', ['e', 'upper'], 'y')
    ]
  })
const PARAMETERS = ['lower', 'middle', 'upper', 'aside']

describe('trainability', () => {
  it('of a graph without obstacles', () =>
    expect(trainability(layers('Tanh'), PARAMETERS)).toEqual({ trainable: ['lower', 'middle', 'upper'], blocked: [] }))

  it('names an op without a derivative and what lies above it', () =>
    expect(trainability(layers('ThresholdedRelu'), PARAMETERS)).toEqual({
      trainable: ['middle', 'upper'],
      blocked: [
        {
          node: 'ThresholdedRelu:c',
          op: 'ThresholdedRelu',
          module: 'encoder.layer.0.act',
          reason: 'no derivative of ThresholdedRelu is known; a rule in src/autodiff/rules would be needed'
        }
      ]
    }))

  it('lets what no gradient flows through be: it blocks nothing, and nothing below trains by it', () =>
    expect(trainability(layers('Round'), PARAMETERS)).toEqual({ trainable: ['middle', 'upper'], blocked: [] }))

  it('names a form of an op that its rule does not cover', () => {
    const model = graph({
      inputs: [float32('x', 1, 2, 5), float32('scale', 1)],
      outputs: [float32('y', 1, 2, 3)],
      inner: [float32('a', 1, 2, 5)],
      nodes: [
        node('Mul', ['x', 'scale'], 'a'),
        node('AveragePool', ['a'], 'y', {
          kernel_shape: { type: 'ints', value: [2] },
          strides: { type: 'ints', value: [2] },
          ceil_mode: int(1)
        })
      ]
    })
    expect(trainability(model, ['scale'])).toEqual({
      trainable: [],
      blocked: [
        {
          node: 'AveragePool:y',
          op: 'AveragePool',
          module: '',
          reason: 'no derivative of AveragePool AveragePool:y with ceil_mode'
        }
      ]
    })
  })

  it('sees quantised activations, through which a gradient would end without a word', () => {
    const model = graph({
      inputs: [float32('x', 2), float32('p', 2)],
      outputs: [float32('loss')],
      inner: [float32('a', 2), { name: 'q', type: 'uint8', shape: [2] }, float32('y', 2)],
      initializers: [floatConstant('scale', 0.5), intConstant('zero', 3)],
      nodes: [
        node('Mul', ['x', 'p'], 'a'),
        node('QuantizeLinear', ['a', 'scale', 'zero'], 'q'),
        node('DequantizeLinear', ['q', 'scale', 'zero'], 'y'),
        node('ReduceSum', ['y'], 'loss', { keepdims: int(0) })
      ]
    })
    expect(trainability(model, ['p'])).toMatchObject({ trainable: [], blocked: [{ op: 'QuantizeLinear' }] })
    expect(() => differentiate(model, { loss: 'loss', parameters: ['p'] })).toThrowError(
      expect.objectContaining({ code: 'autodiff/no-rule' })
    )
  })
})
