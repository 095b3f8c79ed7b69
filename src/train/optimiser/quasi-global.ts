import type { AdamWState } from './adamw.js'

/**
 * Quasi-global momentum (Lin, Karimireddy, Stich & Jaggi 2021, https://arxiv.org/abs/2102.04761, algorithm 1): where peers
 * have different data, momentum from local gradients pulls each its own way; so it is taken from the way of the mixed
 * parameters instead, which all peers go nearly alike. Between two mixings, with gradients g:
 *
 *   m = mu mHat + g,  x <- x - eta m         (mHat stays what it is)
 *   mHat <- mu mHat + (1 - mu) (x_before - x_after) / eta
 *
 * No traffic. With H local steps between mixings, eta is the sum of their rates.
 */
export interface QuasiGlobalOptions {
  /** mu, in [0, 1). */
  readonly decay: number
}

/** The new mHat, float64 or float32[n], from the parameters at the last mixing and after this one. */
export const quasiGlobalMomentum = (
  momentum: Float64Array,
  {
    before,
    after,
    rate
  }: { readonly before: ArrayLike<number>; readonly after: ArrayLike<number>; readonly rate: number },
  { decay }: QuasiGlobalOptions
): Float64Array => momentum.map((value, i) => decay * value + ((1 - decay) * (before[i]! - after[i]!)) / rate)

export interface QuasiGlobalState {
  /** Parameters after the last mixing, float32[n]. */
  readonly anchor: Float32Array
  /** mHat, float32[n]. */
  readonly momentum: Float32Array
  /** Sum of the learning rates of the local steps since. */
  readonly rate: number
}

export interface AdamMoments {
  readonly beta1?: number
  readonly beta2?: number
  readonly epsilon?: number
}

/** Begins with AdamW's own first moment, as if all of it had come from mixed parameters. */
export function beginQuasiGlobal(
  parameters: Float32Array,
  { m, step }: AdamWState,
  { beta1 = 0.9 }: AdamMoments = {}
): QuasiGlobalState {
  const correction = step === 0 ? 1 : 1 - beta1 ** step
  return { anchor: parameters.slice(), momentum: m.map((value) => value / correction), rate: 0 }
}

/**
 * The same for AdamW. Its step is eta mean / (sqrt(square) + epsilon), so a way gone is a mean of gradients times that
 * denominator; the first moment is set to what the mixed way says, in place, and goes on from there by the local gradients.
 * The second moment stays local. Nothing happens where no local step was taken since the last mixing.
 */
export function mixQuasiGlobal(
  parameters: Float32Array,
  { m, v, step }: AdamWState,
  state: QuasiGlobalState,
  { decay, beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8 }: QuasiGlobalOptions & AdamMoments
): QuasiGlobalState {
  if (state.rate === 0) return { ...state, anchor: parameters.slice() }
  const { anchor, momentum, rate } = state
  const [first, second] = [1 - beta1 ** step, 1 - beta2 ** step]
  const next = new Float32Array(momentum.length)
  for (let i = 0; i < next.length; i++) {
    const way = ((anchor[i]! - parameters[i]!) / rate) * (Math.sqrt(v[i]! / second) + epsilon)
    next[i] = decay * momentum[i]! + (1 - decay) * way
    m[i] = first * next[i]!
  }
  return { anchor: parameters.slice(), momentum: next, rate: 0 }
}
