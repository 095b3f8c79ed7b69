/** Elements of one piece. Pieces are never copied, so a list of five million costs what it holds. */
const PIECE = 65_536

type NumberArray = Int32Array | Uint32Array | Float64Array

/** Numbers in the order they came, in typed arrays: a twentieth of what objects would take. */
export interface NumberList {
  readonly length: number
  push(value: number): void
  /** Of a place below `length`. */
  at(index: number): number
}

/** An empty list whose elements are those of `Kind`, e.g. `createNumberList(Uint32Array)`. */
export function createNumberList(Kind: new (length: number) => NumberArray): NumberList {
  const pieces: NumberArray[] = []
  let length = 0
  return {
    get length() {
      return length
    },
    push(value) {
      if (length % PIECE === 0) pieces.push(new Kind(PIECE))
      pieces[pieces.length - 1]![length++ % PIECE] = value
    },
    at: (index) => pieces[Math.floor(index / PIECE)]![index % PIECE]!
  }
}
