import { type FileHandle, open } from 'node:fs/promises'
import { type AsyncBuffer, type FileMetaData, parquetMetadataAsync, parquetReadObjects } from 'hyparquet'
import { compressors } from 'hyparquet-compressors'
import { parquetSchema } from 'hyparquet'
import { PeertuneError } from '../../base/errors.js'
import { systemCode } from '../../base/system-error.js'
import { cannotRead, orAborted, reading, statFile } from './files.js'
import { checkColumns, type ReadRow, type ReadRows } from './row.js'

/** Unpacked bytes of the wanted columns of one row group: a group is decoded as a whole. */
const MAX_GROUP_BYTES = 512 * 1024 * 1024

/**
 * The rows of a Parquet file, one row group at a time, with no other columns than those wanted. Snappy, gzip, brotli,
 * zstd and LZ4 pages. Throws `data/bad-parquet`, `data/no-file` and the signal's reason.
 */
export const readParquet: ReadRows = async function* (path, { columns, signal }) {
  const { size } = await statFile(path)
  const handle = await reading(path, open(path))
  try {
    const file = bufferOf(handle, size)
    const metadata = await guarded(path, parquetMetadataAsync(file), signal)
    checkColumns(
      path,
      columns,
      parquetSchema(metadata).children.map(({ element }) => element.name)
    )
    let rowStart = 0
    for (const group of metadata.row_groups) {
      const rowEnd = rowStart + Number(group.num_rows)
      checkGroup(path, group, columns)
      const read = readGroup({ file, metadata, columns: [...columns], rowStart, rowEnd })
      const rows = (await guarded(path, read, signal)).map(
        (fields, i): ReadRow => ({ file: path, unit: 'row', place: rowStart + i + 1, fields: plainFields(fields) })
      )
      yield { rows, bytes: Math.round((size * rowEnd) / Math.max(1, Number(metadata.num_rows))) }
      rowStart = rowEnd
    }
  } finally {
    await handle.close()
  }
}

/** One open file: what is renamed or removed meanwhile is read to its end. */
function bufferOf(handle: FileHandle, byteLength: number): AsyncBuffer {
  const read = async (start: number, end: number): Promise<ArrayBuffer> => {
    const bytes = new Uint8Array(end - start)
    for (let at = 0; at < bytes.length; ) {
      const { bytesRead } = await handle.read(bytes, at, bytes.length - at, start + at)
      if (bytesRead === 0) throw new Error(`it ends at byte ${start + at}`)
      at += bytesRead
    }
    return bytes.buffer
  }
  return {
    byteLength,
    slice(start, end = byteLength) {
      const bytes = read(start, end)
      // Several are asked for at once and the first to fail ends it: nobody may be waiting for the others.
      bytes.catch(() => undefined)
      return bytes
    }
  }
}

interface GroupRange {
  readonly file: AsyncBuffer
  readonly metadata: FileMetaData
  readonly columns: string[]
  readonly rowStart: number
  readonly rowEnd: number
}

const readGroup = (range: GroupRange): Promise<Record<string, unknown>[]> =>
  parquetReadObjects({ ...range, compressors })

function checkGroup(path: string, group: FileMetaData['row_groups'][number], columns: readonly string[]): void {
  const wanted = group.columns.filter(({ meta_data: meta }) => columns.includes(meta?.path_in_schema[0] ?? ''))
  const bytes = wanted.reduce((sum, { meta_data: meta }) => sum + Number(meta?.total_uncompressed_size ?? 0), 0)
  if (bytes > MAX_GROUP_BYTES)
    throw new PeertuneError('data/bad-parquet', `${path} has a row group of ${bytes} bytes`, {
      facts: { file: path, expected: MAX_GROUP_BYTES, got: bytes },
      hint: 'write it with smaller row groups, e.g. row_group_size=100000'
    })
}

/** Whole numbers of 64 bits as numbers where those are exact, as text elsewhere; the rest as it is. */
const plainFields = (fields: Readonly<Record<string, unknown>>): Record<string, unknown> =>
  Object.fromEntries(Object.entries(fields).map(([name, value]) => [name, plain(value)]))

function plain(value: unknown): unknown {
  if (typeof value === 'bigint') return Number.isSafeInteger(Number(value)) ? Number(value) : String(value)
  if (Array.isArray(value)) return value.map(plain)
  if (value === null || typeof value !== 'object' || value instanceof Date || ArrayBuffer.isView(value)) return value
  return plainFields(value as Record<string, unknown>)
}

async function guarded<T>(file: string, work: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  try {
    return await orAborted(work, signal)
  } catch (cause) {
    if (signal?.aborted) throw signal.reason
    if (systemCode(cause) !== '') throw cannotRead(file, cause)
    const why = cause instanceof Error ? cause.message : String(cause)
    throw new PeertuneError('data/bad-parquet', `${file} cannot be read as Parquet: ${why}`, { facts: { file }, cause })
  }
}
