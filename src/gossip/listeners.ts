import { describeError } from '../base/errors.js'
import type { Logger } from '../base/log.js'

/** Named events with one argument. A listener that throws is logged and hurts nobody. */
export function createListeners<Name extends string, Argument>(log: Logger) {
  type Listener = (argument: Argument) => void
  const byName = new Map<Name, Set<Listener>>()
  return {
    /** Returns the function that takes the listener away again. */
    on: (name: Name, listener: Listener): (() => void) => {
      const own: Listener = (argument) => listener(argument)
      const all = byName.get(name) ?? new Set()
      byName.set(name, all.add(own))
      return () => all.delete(own)
    },
    emit: (name: Name, argument: Argument): void => {
      for (const listener of byName.get(name) ?? []) {
        try {
          listener(argument)
        } catch (error) {
          log.error({ event: name }, `A listener failed: ${describeError(error)}`)
        }
      }
    }
  }
}
