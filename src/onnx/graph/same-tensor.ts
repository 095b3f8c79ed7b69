import type { Initializer } from './graph.js'

/** One tensor under two names: the same bytes in the same shape, in memory or at one place of one file. */
export function sameTensor(a: Initializer, b: Initializer): boolean {
  if (a === b) return true
  if (a.type !== b.type || a.shape.join() !== b.shape.join()) return false
  if (a.data.kind === 'external')
    return b.data.kind === 'external' && a.data.location === b.data.location && a.data.offset === b.data.offset
  return b.data.kind === 'inline' && Buffer.compare(a.data.bytes, b.data.bytes) === 0
}
