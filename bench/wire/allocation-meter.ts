/** The constructors whose `new X(length)` sets memory aside by a number that may have come from a stranger. */
const METERED = ['Uint8Array', 'Int8Array', 'Uint16Array', 'Uint32Array', 'Float32Array', 'Float64Array', 'ArrayBuffer']

export interface AllocationMeter {
  /** Bytes asked for since the last call. */
  take(): number
  /** Takes the meter out again. */
  remove(): void
}

/**
 * Counts the bytes that code asks for by `new Float32Array(n)` and the like, `X.from` included, by standing in for the
 * global constructors. What Node allocates inside (Buffers, strings) shows in the memory of the process instead.
 */
export function meterAllocations(): AllocationMeter {
  const globals = globalThis as unknown as Record<string, unknown>
  const before = METERED.map((name) => [name, globals[name]] as const)
  let bytes = 0
  for (const [name, original] of before)
    globals[name] = new Proxy(original as new (...args: unknown[]) => { readonly byteLength: number }, {
      construct(target, args, newTarget) {
        const made = Reflect.construct(target, args, newTarget) as { readonly byteLength: number }
        // A view on a buffer that is there takes no memory.
        if (!(args[0] instanceof ArrayBuffer)) bytes += made.byteLength
        return made
      }
    })
  return {
    take() {
      const taken = bytes
      bytes = 0
      return taken
    },
    remove() {
      for (const [name, original] of before) globals[name] = original
    }
  }
}
