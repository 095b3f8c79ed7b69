import { createHash } from 'node:crypto'

/** Four 32-bit words: the whole state, fit for a checkpoint. */
export type RngState = readonly [number, number, number, number]

/**
 * Seeded random numbers that every peer reproduces bit for bit: xoshiro128** 1.1 (Blackman & Vigna,
 * https://prng.di.unimi.it/xoshiro128starstar.c), seeded with the first 16 bytes of SHA-256 of the seed text.
 * Only integer arithmetic and IEEE-exact operations are used, so the sequence is the same on every machine.
 * Not for secrets or differential-privacy noise: use node:crypto there.
 */
export interface Rng {
  /** Uniform 32-bit unsigned integer. */
  uint32(): number
  /** Uniform in [0, 1) with 32 bits. */
  uniform(): number
  /** The same numbers as one `uint32()` for each element, several times faster: for vectors of a million. */
  fill(out: Uint32Array): void
  /** Uniform integer in [0, bound); `bound` from 1 to 2^32. */
  integer(bound: number): number
  /** Fisher-Yates, returns a new array. */
  shuffle<T>(items: readonly T[]): T[]
  state(): RngState
}

const rotl = (x: number, k: number): number => ((x << k) | (x >>> (32 - k))) >>> 0

class Xoshiro implements Rng {
  #a: number
  #b: number
  #c: number
  #d: number

  constructor([a, b, c, d]: RngState) {
    this.#a = a
    this.#b = b
    this.#c = c
    this.#d = d
  }

  uint32(): number {
    const result = Math.imul(rotl(Math.imul(this.#b, 5) >>> 0, 7), 9) >>> 0
    const t = this.#b << 9
    this.#c ^= this.#a
    this.#d ^= this.#b
    this.#b ^= this.#c
    this.#a ^= this.#d
    this.#c ^= t
    this.#d = rotl(this.#d >>> 0, 11)
    return result
  }

  fill(out: Uint32Array): void {
    // Local 32-bit integers stay in registers; the fields do not.
    let a = this.#a | 0
    let b = this.#b | 0
    let c = this.#c | 0
    let d = this.#d | 0
    for (let i = 0; i < out.length; i++) {
      const x = Math.imul(b, 5)
      out[i] = Math.imul((x << 7) | (x >>> 25), 9)
      const t = b << 9
      c ^= a
      d ^= b
      b ^= c
      a ^= d
      c ^= t
      d = (d << 11) | (d >>> 21)
    }
    this.#a = a
    this.#b = b
    this.#c = c
    this.#d = d
  }

  uniform(): number {
    return this.uint32() / 0x1_0000_0000
  }

  integer(bound: number): number {
    // Rejection keeps every value equally likely.
    const limit = 0x1_0000_0000 - (0x1_0000_0000 % bound)
    let draw = this.uint32()
    while (draw >= limit) draw = this.uint32()
    return draw % bound
  }

  shuffle<T>(items: readonly T[]): T[] {
    const out = items.slice()
    for (let i = out.length - 1; i > 0; i--) {
      const j = this.integer(i + 1)
      const held = out[i] as T
      out[i] = out[j] as T
      out[j] = held
    }
    return out
  }

  state(): RngState {
    return [this.#a >>> 0, this.#b >>> 0, this.#c >>> 0, this.#d >>> 0]
  }
}

/** A generator for one purpose: `seededRng('federation-seed', 'lora', 'layers.0.q_proj')`. */
export function seededRng(...seed: readonly (string | number)[]): Rng {
  const digest = createHash('sha256').update(JSON.stringify(seed)).digest()
  const word = (i: number) => digest.readUInt32LE(4 * i)
  return new Xoshiro([word(0), word(1), word(2), word(3) | 1])
}

/** Continues where `state()` was taken. */
export const restoreRng = (state: RngState): Rng => new Xoshiro(state)
