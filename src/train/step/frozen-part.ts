import type { Batch, BatchTensor } from '../../data/batches/batch.js'
import type { Session, SessionTensor } from '../../onnx/runtime/session.js'
import type { Shape } from '../../tensor/schema.js'
import { type ActivationCache, exampleKeys, joinParts, partOf } from './activation-cache.js'

type Inputs = Batch['inputs']

/** The part of a model below its lowest adapter: computed once per example while there is room for what it gives. */
export interface FrozenPart {
  /** Batch tensors it reads. */
  readonly inputs: Session['inputs']
  /** Boundary values of this batch, by name. */
  activations(inputs: Inputs): Promise<Record<string, SessionTensor>>
  release(): Promise<void>
}

export interface FrozenPartOptions {
  readonly session: Session
  /** Boundary values, in any fixed order. */
  readonly values: readonly string[]
  readonly batchSize: number
  readonly cache: ActivationCache
}

/** Relative difference below which an example's activations count as independent of its neighbours. */
const INDEPENDENCE_TOLERANCE = 1e-3

/**
 * Before the first activation is kept, the batch runs a second time with its examples in another order: a model in which
 * they see each other, or whose values are not laid out by example, is computed anew at every step and never cached.
 */
export function createFrozenPart({ session, values, batchSize, cache }: FrozenPartOptions): FrozenPart {
  const shapes = values.map((name) => session.outputs.find((output) => output.name === name)?.shape as Shape)
  let independent: boolean | undefined = batchSize === 1 ? true : undefined

  const compute = async (inputs: Inputs): Promise<SessionTensor[]> => {
    const wanted = Object.fromEntries(session.inputs.map(({ name }) => [name, inputs[name] as BatchTensor]))
    const results = await session.run(wanted)
    return values.map((name) => results[name] as SessionTensor)
  }
  const named = (tensors: readonly SessionTensor[]): Record<string, SessionTensor> =>
    Object.fromEntries(values.map((name, index) => [name, tensors[index] as SessionTensor]))

  return {
    inputs: session.inputs,
    async activations(inputs) {
      const keys = exampleKeys({ inputs }, batchSize)
      const known = keys.map((key) => cache.get(key))
      if (known.every((part) => part !== undefined)) return named(joinParts(known, shapes))
      const results = await compute(inputs)
      if (independent === undefined && new Set(keys).size > 1)
        independent = isSameRotated(results, await compute(rotated(inputs, batchSize)), batchSize)
      if (independent === true)
        for (const [row, key] of keys.entries())
          if (known[row] === undefined) cache.put(key, partOf(results, row, batchSize))
      return named(results)
    },
    release: () => session.release()
  }
}

/** The first example goes last. */
function rotated(inputs: Inputs, batchSize: number): Inputs {
  const turn = (tensor: BatchTensor): BatchTensor => {
    const size = tensor.data.length / batchSize
    const data = tensor.data.slice()
    data.set(tensor.data.subarray(size))
    data.set(tensor.data.subarray(0, size), data.length - size)
    return { ...tensor, data } as BatchTensor
  }
  return Object.fromEntries(Object.entries(inputs).map(([name, tensor]) => [name, turn(tensor)]))
}

function isSameRotated(plain: readonly SessionTensor[], turned: readonly SessionTensor[], batchSize: number): boolean {
  return plain.every(({ data }, value) => {
    const other = turned[value]?.data ?? []
    const size = data.length / batchSize
    let largest = 0
    let difference = 0
    for (let i = 0; i < data.length; i++) {
      const here = data[i] as number
      largest = Math.max(largest, Math.abs(here))
      difference = Math.max(difference, Math.abs(here - (other[(i - size + data.length) % data.length] as number)))
    }
    return difference <= INDEPENDENCE_TOLERANCE * largest
  })
}
