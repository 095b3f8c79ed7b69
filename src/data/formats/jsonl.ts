import { readPieces } from './files.js'
import { badRow, clip, type ReadRow, type ReadRows } from './row.js'

/** Bytes of one line, so that a file without line ends cannot fill the memory. */
const MAX_LINE_BYTES = 8 * 1024 * 1024
/** Bytes read at once: some hundred rows, parsed without a pause. */
const CHUNK_BYTES = 256 * 1024
const LINE_FEED = 0x0a

/**
 * The rows of a JSONL file, holding one chunk and one line at a time. Blank lines are skipped. Each row says where it
 * lies, so that it can be read again.
 */
export const readJsonl: ReadRows = async function* (path, { signal }) {
  const lines = createLineCutter(path)
  for await (const chunk of readPieces(path, { signal, pieceBytes: CHUNK_BYTES }))
    yield { rows: lines.take(chunk), bytes: lines.bytes() }
  yield { rows: lines.end(), bytes: lines.bytes() }
}

/** Cuts chunks, wherever they end, into lines and parses those. */
function createLineCutter(file: string) {
  let rest: Buffer = Buffer.alloc(0)
  /** Of the first byte of `rest` in the file. */
  let start = 0
  let place = 1

  const parse = (line: Buffer, at: number): ReadRow[] => {
    const row = { file, unit: 'line' as const, place: place++ }
    const content = line.toString('utf8')
    if (content.trim() === '') return []
    try {
      const fields: unknown = JSON.parse(content)
      if (fields !== null && typeof fields === 'object' && !Array.isArray(fields))
        return [{ ...row, fields: fields as Record<string, unknown>, bytes: { start: at, length: line.length } }]
      return [badRow(row, 'a JSON object', clip(content.trim()))]
    } catch (cause) {
      return [badRow(row, 'a JSON object', `no JSON: ${clip(content.trim())}`, { cause })]
    }
  }
  return {
    bytes: () => start + rest.length,
    take(chunk: Buffer): ReadRow[] {
      const buffer = rest.length === 0 ? chunk : Buffer.concat([rest, chunk])
      const rows: ReadRow[] = []
      let from = 0
      for (let end = buffer.indexOf(LINE_FEED); end >= 0; end = buffer.indexOf(LINE_FEED, from)) {
        for (const row of parse(buffer.subarray(from, end), start + from)) rows.push(row)
        from = end + 1
      }
      rest = buffer.subarray(from)
      start += from
      if (rest.length <= MAX_LINE_BYTES) return rows
      throw badRow(
        { file, unit: 'line', place },
        `a line of at most ${MAX_LINE_BYTES} bytes`,
        `${rest.length} and no end`
      )
    },
    end: (): ReadRow[] => (rest.length === 0 ? [] : parse(rest, start))
  }
}
