import { vi } from 'vitest'
import { PATIENCE } from './patience.js'

/** Looks until the assertions hold. What will never hold ends with what was wrong the last time. */
export const eventually = <T>(look: () => T | Promise<T>): Promise<T> => vi.waitFor(look, PATIENCE)
