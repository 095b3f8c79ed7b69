import { scalarValue } from '../../onnx/graph/constant.js'
import type { Ops } from '../ops.js'
import type { RuleContext, RuleTable } from '../rule.js'
import { shared } from '../rule.js'

/** Arithmetic of one element at a time. Broadcasting is undone by the walk. */
export const elementwise: RuleTable = {
  Identity: ({ dO }) => [() => dO],
  Add: ({ dO }) => [() => dO, () => dO],
  Sum: ({ I, dO }) => I.map(() => () => dO),
  Sub: ({ op, dO }) => [() => dO, () => op.unary('Neg', dO)],
  Mul: ({ op, I: [a = '', b = ''], dO }) => [() => op.mul(dO, b), () => op.mul(dO, a)],
  Div: ({ op, I: [, b = ''], O: [y = ''], dO }) => {
    const quotient = shared(() => op.div(dO, b))
    return [quotient, () => op.unary('Neg', op.mul(quotient(), y))]
  },
  Pow: (c) => [() => powerBase(c), () => powerExponent(c)],
  Sqrt: ({ op, O: [y = ''], dO }) => [() => op.scale(op.div(dO, y), 0.5)],
  Reciprocal: ({ op, O: [y = ''], dO }) => [() => op.unary('Neg', op.mul(dO, op.mul(y, y)))],
  Exp: ({ op, O: [y = ''], dO }) => [() => op.mul(dO, y)],
  Log: ({ op, I: [x = ''], dO }) => [() => op.div(dO, x)],
  /** y = a - b floor(a / b), or with trunc where fmod is set: either way (a - y) / b is that whole number. */
  Mod: ({ op, I: [a = '', b = ''], O: [y = ''], dO }) => [
    () => dO,
    () => op.unary('Neg', op.mul(dO, op.div(op.sub(a, y), b)))
  ],
  Neg: ({ op, dO }) => [() => op.unary('Neg', dO)],
  Abs: ({ op, I: [x = ''], dO }) => [() => op.mul(dO, op.unary('Sign', x))],
  Sin: ({ op, I: [x = ''], dO }) => [() => op.mul(dO, op.unary('Cos', x))],
  Cos: ({ op, I: [x = ''], dO }) => [() => op.unary('Neg', op.mul(dO, op.unary('Sin', x)))],
  Cast: ({ op, I: [x = ''], dO }) => [() => op.cast(dO, op.type(x))],
  CastLike: ({ op, I: [x = ''], dO }) => [() => op.cast(dO, op.type(x)), undefined],
  Where: ({ op, I: [condition = ''], dO }) => {
    const zero = shared(() => op.scalar(0, dO))
    return [undefined, () => op.where(condition, dO, zero()), () => op.where(condition, zero(), dO)]
  },
  Max: extremum,
  Min: extremum,
  Clip: ({ op, I: [x = ''], O: [y = ''], dO }) => [() => op.mul(dO, indicator(op, x, y))]
}

/** 1 where a = b, in the type of a. */
const indicator = (op: Ops, a: string, b: string): string => op.cast(op.compare('Equal', a, b), op.type(a))

/** Ties share the cotangent evenly, as torch.maximum does. */
function extremum({ op, I, O: [y = ''], dO }: RuleContext) {
  const wins = I.map((input) => shared(() => indicator(op, input, y)))
  const each = shared(() =>
    op.div(
      dO,
      wins.map((win) => win()).reduce((sum, win) => op.add(sum, win))
    )
  )
  return wins.map((win) => () => op.mul(each(), win()))
}

/** d(x^p)/dx = p x^(p-1). The usual constant exponents need no Pow, which is the slowest elementwise kernel. */
function powerBase({ op, I: [x = '', p = ''], O: [y = ''], dO }: RuleContext): string {
  const exponent = scalarValue(op.emitter.initializerOf(p))
  switch (exponent) {
    case undefined:
      return op.mul(dO, op.mul(op.cast(p, op.type(x)), op.pow(x, op.sub(p, op.scalar(1, p)))))
    case 1:
      return dO
    case 2:
      return op.mul(dO, op.scale(x, 2))
    case 3:
      return op.mul(dO, op.scale(op.mul(x, x), 3))
    case 0.5:
      return op.scale(op.div(dO, y), 0.5)
    default:
      return op.mul(dO, op.scale(op.pow(x, op.scalar(exponent - 1, x)), exponent))
  }
}

const powerExponent = ({ op, I: [x = ''], O: [y = ''], dO }: RuleContext): string =>
  op.mul(dO, op.mul(y, op.unary('Log', x)))
