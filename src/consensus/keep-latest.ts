/** The map with this entry last; the oldest go where there are more than `most`. */
export function keepLatest<Key, Value>(
  map: ReadonlyMap<Key, Value>,
  [key, value]: readonly [Key, Value],
  most: number
): ReadonlyMap<Key, Value> {
  const next = new Map(map)
  // Deleted first: setting a key that is there would leave it where it was.
  next.delete(key)
  next.set(key, value)
  for (const oldest of next.keys()) {
    if (next.size <= most) break
    next.delete(oldest)
  }
  return next
}
