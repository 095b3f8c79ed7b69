import type { Node } from '../onnx/graph/graph.js'
import type { RuleTable } from './rule.js'
import { activation } from './rules/activation.js'
import { convolution } from './rules/convolution.js'
import { einsum } from './rules/einsum.js'
import { elementwise } from './rules/elementwise.js'
import { indexing } from './rules/indexing.js'
import { matmul } from './rules/matmul.js'
import { movement } from './rules/movement.js'
import { normalization } from './rules/normalization.js'
import { pooling } from './rules/pooling.js'
import { reduction } from './rules/reduction.js'

/** No gradient flows through these: comparisons, logic, rounding, indices, shapes and constants. */
// biome-ignore format: a list, not a column
const NOT_DIFFERENTIABLE = [
  'And', 'ArgMax', 'ArgMin', 'BitShift', 'Ceil', 'Constant', 'ConstantOfShape', 'Equal', 'EyeLike', 'Floor', 'Greater',
  'GreaterOrEqual', 'IsInf', 'IsNaN', 'Less', 'LessOrEqual', 'NonZero', 'Not', 'OneHot', 'Or', 'Range', 'Round', 'Shape',
  'Sign', 'Size', 'Xor'
]

/** The derivative table: op -> rule, `null` where no gradient flows. Ops of other domains carry their domain's name. */
export const RULES: RuleTable = {
  ...elementwise,
  ...activation,
  ...matmul,
  ...reduction,
  ...normalization,
  ...movement,
  ...indexing,
  ...convolution,
  ...pooling,
  ...einsum,
  ...Object.fromEntries(NOT_DIFFERENTIABLE.map((op) => [op, null]))
}

/** An op's key in the table. */
export const ruleKey = ({ op, domain }: Node): string =>
  domain === '' || domain === 'ai.onnx' ? op : `${domain}.${op}`
