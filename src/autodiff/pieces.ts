import type { TensorType } from './emit.js'
import type { Ops } from './ops.js'
import type { Cotangent, Piece } from './rule.js'

/**
 * Whole tensors whose sum is the sum of `cotangents`. Pieces that lie end to end along an axis become one Concat (the
 * two halves of a rotary embedding; query, key and value cut from one projection); what they leave open is padded.
 */
export function collectPieces(op: Ops, cotangents: readonly Cotangent[], whole: TensorType): string[] {
  const tensors = cotangents.filter((cotangent) => typeof cotangent === 'string')
  const waiting = cotangents
    .filter((cotangent) => typeof cotangent !== 'string')
    .sort((a, b) => a.axis - b.axis || a.start - b.start)
  const endOf = ({ axis, start, value }: Piece): number => start + (op.shape(value)[axis] ?? 0)
  for (let first = waiting.shift(); first !== undefined; first = waiting.shift()) {
    const { axis, start } = first
    const row = [first.value]
    let end = endOf(first)
    for (let next = follower(waiting, axis, end); next !== undefined; next = follower(waiting, axis, end)) {
      row.push(next.value)
      end = endOf(next)
    }
    tensors.push(op.pad(op.concat(row, axis), axis, start, (whole.shape[axis] ?? end) - end))
  }
  return tensors
}

/** Takes the piece that starts where the last one ended. */
function follower(waiting: Piece[], axis: number, end: number): Piece | undefined {
  const index = waiting.findIndex((piece) => piece.axis === axis && piece.start === end)
  return index < 0 ? undefined : waiting.splice(index, 1)[0]
}
