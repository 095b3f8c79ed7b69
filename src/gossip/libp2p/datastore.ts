import { MemoryDatastore } from 'datastore-core/memory'

/** An in-memory datastore of at most `limit` records; the one written longest ago goes first. */
export function boundedDatastore(limit: number): MemoryDatastore {
  const store = new MemoryDatastore()
  const order = new Map<string, Parameters<typeof put>[0]>()
  const put = store.put.bind(store)
  const remove = store.delete.bind(store)
  store.put = (key, value, options) => {
    order.delete(key.toString())
    order.set(key.toString(), key)
    const oldest = order.size > limit ? order.values().next().value : undefined
    if (oldest !== undefined) {
      order.delete(oldest.toString())
      remove(oldest)
    }
    return put(key, value, options)
  }
  store.delete = (key, options) => {
    order.delete(key.toString())
    return remove(key, options)
  }
  return store
}
