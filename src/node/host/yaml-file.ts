import {
  Document,
  LineCounter,
  type Node,
  type Pair,
  isMap,
  isNode,
  isPair,
  isScalar,
  isSeq,
  parseDocument
} from 'yaml'
import { PeertuneError } from '../../base/errors.js'
import { reasonOf } from '../../base/system-error.js'
import { readTextFile } from './text-file.js'

/** Where in a document a value stands: keys and list positions from the root. */
export type FieldPath = readonly (string | number)[]

/** A YAML file read: its plain value, and the line every part of it stands on. */
export interface YamlFile {
  readonly file: string
  readonly value: unknown
  /** Line (from 1) of the field, or of its nearest ancestor that is written down. */
  line(path: FieldPath): number
}

/** Bytes. Configurations are a page or two; what is larger is another file given by mistake. */
export const MAX_YAML_BYTES = 1 << 20

/**
 * Reads a YAML 1.2 file. Throws `config/unreadable-file`, `config/too-large` and `config/not-yaml`, each naming the
 * file, and the line where there is one.
 */
export async function readYamlFile(file: string): Promise<YamlFile> {
  return parseYaml(file, await readTextFile(file, MAX_YAML_BYTES))
}

/** `readYamlFile` for text already at hand; `file` is what errors call it. */
export function parseYaml(file: string, text: string): YamlFile {
  const lines = new LineCounter()
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false })
  const [error] = document.errors
  if (error !== undefined) {
    const { line } = lines.linePos(error.pos[0])
    const problem = error.message.replace(/\s+/g, ' ')
    throw new PeertuneError('config/not-yaml', `${file}:${line}: expected valid YAML, got ${problem}`, {
      facts: { file, line },
      cause: error
    })
  }
  const root = document.contents
  return {
    file,
    value: plainValue(file, document),
    line: (path) => lines.linePos(offsetOf(root, path)).line
  }
}

/** YAML text of `value`; `comment` may put a remark behind a leaf. */
export function printYaml(value: unknown, comment: (path: FieldPath) => string | undefined = () => undefined): string {
  const document = new Document(value)
  annotate(document.contents, [], comment)
  return document.toString({ lineWidth: 0 })
}

/** Aliases are bounded by the parser; one that goes past the bound throws here. */
function plainValue(file: string, document: Document.Parsed): unknown {
  try {
    return document.toJS()
  } catch (error) {
    throw new PeertuneError('config/not-yaml', `${file}: expected YAML with few aliases, got ${reasonOf(error)}`, {
      facts: { file },
      cause: error
    })
  }
}

/** Offset of the key (or list item) `path` names, or of the deepest part of it that exists. */
function offsetOf(root: Node | null, path: FieldPath): number {
  let offset = root?.range?.[0] ?? 0
  let node: unknown = root
  for (const step of path) {
    const found = childOf(node, step)
    if (found === undefined) break
    offset = startOf(isPair(found) ? found.key : found) ?? offset
    node = isPair(found) ? found.value : found
  }
  return offset
}

function childOf(node: unknown, step: string | number): Node | Pair | undefined {
  if (isMap(node)) return node.items.find(({ key }) => (isScalar(key) ? String(key.value) : key) === String(step))
  const item = isSeq(node) && typeof step === 'number' ? node.items[step] : undefined
  return isNode(item) ? item : undefined
}

const startOf = (node: unknown): number | undefined => (isNode(node) ? node.range?.[0] : undefined)

function annotate(node: unknown, path: FieldPath, comment: (path: FieldPath) => string | undefined): void {
  if (isMap(node) && node.items.length > 0)
    for (const pair of node.items)
      annotate(pair.value, [...path, String(isScalar(pair.key) ? pair.key.value : '')], comment)
  else if (isNode(node)) {
    const remark = comment(path)
    if (remark === undefined) return
    if (isSeq(node)) node.flow = true
    node.comment = ` ${remark}`
  }
}
