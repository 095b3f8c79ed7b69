import { PeertuneError } from '../base/errors.js'

interface Bounds {
  readonly min?: number
  readonly above?: number
  readonly max: number
}

/** A flag's number. Throws `config/wrong-number` with what was expected. */
export const numberFlag = (flag: string, text: string, bounds: Bounds): number =>
  checked(flag, text, bounds, 'a number')

export const wholeFlag = (flag: string, text: string, bounds: Bounds): number =>
  checked(flag, text, bounds, 'a whole number')

function checked(flag: string, text: string, { min, above, max }: Bounds, kind: string): number {
  const value = text.trim() === '' ? Number.NaN : Number(text)
  const isKind = kind === 'a number' || Number.isInteger(value)
  if (isKind && value <= max && (min === undefined || value >= min) && (above === undefined || value > above))
    return value
  const expected = `${kind} ${min === undefined ? `above ${above} and at most` : `from ${min} to`} ${max}`
  throw new PeertuneError('config/wrong-number', `${flag}: expected ${expected}, got ${text}`, {
    facts: { flag, expected, got: text }
  })
}
