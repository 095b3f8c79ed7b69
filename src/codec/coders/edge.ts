import { decoded } from '../../base/verdict.js'
import { add, subtract } from '../../tensor/linear.js'
import type { EdgeCodecName, EdgeCoding, VectorCodec } from '../codec.js'

/** How a coder without memory works, in the same words: the reference is the start, always. */
export const statelessCoding = (inner: VectorCodec): Pick<EdgeCoding, 'begin' | 'encode' | 'decode'> => ({
  begin: (start) => ({ own: start, partner: start, turns: 0 }),
  encode: (parameters, { own }, rng) => inner.encode(subtract(parameters, own), rng, own),
  decode(bytes, memory, whose) {
    const known = memory[whose]
    const difference = inner.decode(bytes, known.length)
    // The same float32 additions on both ends, hence the same bits.
    return difference.ok ? decoded(add(known, difference.value)) : difference
  }
})

/**
 * Codes the difference from what the partner was told last instead of from the common start: the copies x^ of
 * CHOCO-Gossip (Koloskova et al. 2019, https://arxiv.org/abs/1902.00340, algorithm 1), one pair for each edge. What a
 * coder leaves out stays in the next difference, so error feedback is built in, and any contraction converges exactly.
 */
export function edgeCoded(name: EdgeCodecName, inner: VectorCodec): VectorCodec {
  const edge: EdgeCoding = {
    ...statelessCoding(inner),
    next: ({ turns }, own, partner) => ({ own, partner, turns: turns + 1 }),
    memoryElements: (count) => 2 * count
  }
  return { ...inner, name, edge }
}
