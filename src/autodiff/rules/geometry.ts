import type { Attribute, Node } from '../../onnx/graph/graph.js'
import type { Shape } from '../../tensor/schema.js'
import { intsAttribute, stringAttribute } from '../rule.js'
import { range } from '../shape.js'

/** How a window slides over the spatial axes of [batch, channels, ...space]. */
export interface Geometry {
  readonly kernel: Shape
  readonly strides: readonly number[]
  readonly dilations: readonly number[]
  /** Before each axis, then after each axis. */
  readonly pads: readonly number[]
}

/** Spatial shapes of a node's window, of what it slides over, and of the positions that gives. */
export interface Extents {
  readonly kernel: Shape
  readonly space: Shape
  readonly steps: Shape
}

/** The geometry of a node, automatic padding worked out. */
export function geometryOf(node: Node, { kernel, space, steps }: Extents): Geometry {
  const ones = kernel.map(() => 1)
  const strides = intsAttribute(node, 'strides') ?? ones
  const dilations = intsAttribute(node, 'dilations') ?? ones
  const automatic = stringAttribute(node, 'auto_pad', 'NOTSET')
  const given = {
    kernel,
    strides,
    dilations,
    pads: intsAttribute(node, 'pads') ?? range(2 * kernel.length).map(() => 0)
  }
  if (!automatic.startsWith('SAME')) return given
  const total = reach(given, steps).map((extent, axis) => Math.max(0, extent - (space[axis] ?? 0)))
  const small = total.map((amount) => Math.floor(amount / 2))
  const large = total.map((amount, axis) => amount - (small[axis] ?? 0))
  return { ...given, pads: automatic === 'SAME_LOWER' ? [...large, ...small] : [...small, ...large] }
}

/** Elements from the first of the first window to the last of the last one, padding included. */
const reach = ({ kernel, strides, dilations }: Omit<Geometry, 'pads'>, steps: Shape): number[] =>
  steps.map(
    (count, axis) => (count - 1) * (strides[axis] ?? 1) + ((kernel[axis] ?? 1) - 1) * (dilations[axis] ?? 1) + 1
  )

/** Elements of the input that some window covers, per axis. */
const coveredExtents = (geometry: Geometry, steps: Shape): number[] =>
  reach(geometry, steps).map((extent, axis) => {
    const { pads } = geometry
    return extent - (pads[axis] ?? 0) - (pads[axis + steps.length] ?? 0)
  })

export const intsAttributes = (lists: Readonly<Record<string, readonly number[]>>): Record<string, Attribute> =>
  Object.fromEntries(Object.entries(lists).map(([name, value]) => [name, { type: 'ints', value }]))

/** Attributes of the transposed convolution that takes `steps` positions back to `space`; the far rest is padded. */
export function transposedAttributes(geometry: Geometry, space: Shape, steps: Shape): Record<string, Attribute> {
  const { strides, dilations, pads } = geometry
  const covered = coveredExtents(geometry, steps)
  return intsAttributes({
    strides,
    dilations,
    pads,
    output_padding: space.map((extent, i) => extent - (covered[i] ?? 0))
  })
}
