import { PeertuneError } from '../base/errors.js'
import { createSchema, type ParameterEntry, type ParameterSchema, type Shape } from './schema.js'
import type { Selection } from './selection.js'

/**
 * Rank slots: row c of a LoRA's A with column c of its B, a head of several cores, or row and column c of a single core.
 * Slots are nested: a peer with fewer of them has the first ones of everybody else, since their frozen or initial values
 * are drawn from the common seed in that order.
 */
const SLOT_AXES: readonly (readonly [RegExp, (shape: Shape) => readonly number[]])[] = [
  [/\.lora_A\.weight$/, () => [0]],
  [/\.lora_B\.weight$/, () => [1]],
  // float32[heads, rank, rank], or float32[rank, rank] of one core.
  [/\.lora_core$/, ({ length }) => (length === 3 ? [0] : [0, 1])]
]

/** The axes of a tensor that count slots; none for other tensors. */
const slotAxes = ({ name, shape }: Pick<ParameterEntry, 'name' | 'shape'>): readonly number[] =>
  SLOT_AXES.find(([pattern]) => pattern.test(name))?.[1](shape) ?? []

/** How many slots the tensors have; undefined where there are none, or not as many everywhere. */
export function slotCount({ entries }: ParameterSchema): number | undefined {
  const counts = new Set(entries.flatMap((entry) => slotAxes(entry).map((axis) => entry.shape[axis] as number)))
  return counts.size === 1 ? [...counts][0] : undefined
}

/** The same tensors with another number of slots. */
export const withSlots = (schema: ParameterSchema, slots: number): ParameterSchema =>
  createSchema(
    schema.entries.map((entry) => {
      const axes = slotAxes(entry)
      return { name: entry.name, shape: entry.shape.map((size, axis) => (axes.includes(axis) ? slots : size)) }
    })
  )

/**
 * The tensors of `inner` as the leading part of those of `outer`, which have the same names and are as large in every axis
 * or larger. Throws `tensor/not-nested` for schemas that do not lie in one another.
 */
export function nestedPart(outer: ParameterSchema, inner: ParameterSchema): Selection {
  if (outer.hash === inner.hash) return { schema: inner, take: same, expand: same, put: setAll, addInto: addAll }
  requireNested(outer, inner)
  const places = new Uint32Array(inner.size)
  for (const [index, entry] of inner.entries.entries()) placesOf(outer.entries[index] as ParameterEntry, entry, places)
  const addInto = (part: Float32Array, whole: Float32Array): void => {
    for (let i = 0; i < places.length; i++) whole[places[i]!] = whole[places[i]!]! + part[i]!
  }
  return {
    schema: inner,
    take: (whole) => Float32Array.from(places, (place) => whole[place] as number),
    put(part, whole) {
      for (let i = 0; i < places.length; i++) whole[places[i]!] = part[i]!
    },
    addInto,
    expand(part) {
      const whole = new Float32Array(outer.size)
      for (let i = 0; i < places.length; i++) whole[places[i]!] = part[i]!
      return whole
    }
  }
}

const same = (vector: Float32Array): Float32Array => vector

const setAll = (part: Float32Array, whole: Float32Array): void => whole.set(part)

function addAll(part: Float32Array, whole: Float32Array): void {
  for (let i = 0; i < whole.length; i++) whole[i] = whole[i]! + part[i]!
}

function requireNested(outer: ParameterSchema, inner: ParameterSchema): void {
  const misfit = inner.entries.find((entry, index) => {
    const around = outer.entries[index]
    const fits = entry.shape.every((size, axis) => size <= (around?.shape[axis] ?? 0))
    return around?.name !== entry.name || around.shape.length !== entry.shape.length || !fits
  })
  if (misfit === undefined && outer.entries.length === inner.entries.length) return
  throw new PeertuneError('tensor/not-nested', 'the parameters of one schema are not the first of the other', {
    facts: { inner: inner.hash, outer: outer.hash, ...(misfit && { tensor: misfit.name }) }
  })
}

/** Where each element of a leading block lies in the vector around it, row by row. */
function placesOf(outer: ParameterEntry, inner: ParameterEntry, places: Uint32Array): void {
  const row = inner.shape.at(-1) ?? 1
  const rows = inner.size / Math.max(1, row)
  for (let r = 0; r < rows; r++) {
    let rest = r
    let at = 0
    let stride = outer.shape.at(-1) ?? 1
    for (let axis = inner.shape.length - 2; axis >= 0; axis--) {
      const size = inner.shape[axis] as number
      at += (rest % size) * stride
      rest = Math.floor(rest / size)
      stride *= outer.shape[axis] as number
    }
    for (let i = 0; i < row; i++) places[inner.offset + r * row + i] = outer.offset + at + i
  }
}
