import { hash } from 'node:crypto'

/** Keys are below this. */
export const KEY_RANGE = 2 ** 32

/**
 * 32 bits of what an example says, under a seed: the first four bytes of SHA-256. Whatever hangs on them alone (what is
 * held out, who gets what) stays the same across restarts and when rows are put in another order, added or taken out.
 */
export const contentKey = (seed: string, content: string): number =>
  Number.parseInt(hash('sha256', `${seed}\0${content}`, 'hex').slice(0, 8), 16)
