import type { Rule, RuleContext, RuleTable } from '../rule.js'
import { stringAttribute, unsupportedForm } from '../rule.js'

/** Sums of products in index notation: the derivative is another such sum. */
export const einsum: RuleTable = { Einsum: (c) => c.I.map((_, index) => () => operandGradient(c, index)) }

interface Equation {
  readonly operands: readonly string[]
  readonly result: string
}

function equationOf(c: RuleContext): Equation {
  const text = stringAttribute(c.node, 'equation', '').replaceAll(' ', '')
  const [left = '', right] = text.split('->')
  const operands = left.split(',')
  const isRepeated = (letter: string, index: number, letters: string[]): boolean => letters.indexOf(letter) !== index
  if (text.includes('.')) throw unsupportedForm(c, 'an ellipsis')
  if (operands.some((operand) => [...operand].some(isRepeated))) throw unsupportedForm(c, 'a diagonal')
  const letters = [...operands.join('')]
  const once = letters.filter((letter) => letters.indexOf(letter) === letters.lastIndexOf(letter)).sort()
  return { operands, result: right ?? once.join('') }
}

/** y = sum(a b): da = sum(dO b) over what a does not have; what only a has is repeated. */
function operandGradient(c: RuleContext, index: number): ReturnType<NonNullable<ReturnType<Rule>[number]>> {
  const { op, I, dO } = c
  const { operands, result } = equationOf(c)
  const own = [...(operands[index] ?? '')]
  const others = operands.filter((_, other) => other !== index)
  const known = own.filter((letter) => result.includes(letter) || others.some((operand) => operand.includes(letter)))
  const target = op.emitter.typeOf(I[index] ?? '')
  const extentOf = (letter: string): number => target.shape[own.indexOf(letter)] ?? 1
  const inputs = I.filter((_, other) => other !== index)
  const terms = result === '' ? others : [result, ...others]
  const product = (): string =>
    op.node(
      'Einsum',
      result === '' ? inputs : [dO, ...inputs],
      { type: target.type, shape: known.map(extentOf) },
      { equation: { type: 'string', value: `${terms.join(',')}->${known.join('')}` } }
    )
  const summed = terms.length === 0 ? dO : result === '' ? op.mul(product(), dO) : product()
  const kept = op.reshape(
    summed,
    own.map((letter) => (known.includes(letter) ? extentOf(letter) : 1))
  )
  return op.expand(kept, target.shape)
}
