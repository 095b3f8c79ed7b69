import { readFile, stat } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'

/** Bytes of a configuration; those in use have a few thousand. */
const MAX_CONFIG_BYTES = 4 * 2 ** 20

/** Folders where what belongs to a model is looked for: its own and, for one in `onnx/`, the one above. */
function foldersOf(modelPath: string): string[] {
  const own = dirname(modelPath)
  return basename(own) === 'onnx' ? [own, dirname(own)] : [own]
}

/** A file that belongs to a model, such as its tokenizer.json; undefined where there is none. */
export async function fileBeside(modelPath: string, name: string): Promise<string | undefined> {
  for (const folder of foldersOf(modelPath)) {
    const path = join(folder, name)
    if ((await stat(path).catch(() => undefined))?.isFile()) return path
  }
  return undefined
}

/** A JSON file that belongs to a model; empty where there is none, or none that can be read. */
export async function configBeside(modelPath: string, name: string): Promise<Readonly<Record<string, unknown>>> {
  const text = await textBeside(modelPath, name)
  try {
    const value: unknown = JSON.parse(text ?? '{}')
    return value !== null && typeof value === 'object' ? (value as Record<string, unknown>) : {}
  } catch {
    return {}
  }
}

/** A small text file that belongs to a model. */
export async function textBeside(modelPath: string, name: string): Promise<string | undefined> {
  const path = await fileBeside(modelPath, name)
  if (path === undefined || (await stat(path)).size > MAX_CONFIG_BYTES) return undefined
  return readFile(path, 'utf8')
}

/** Hugging Face's names for the positions of a text model (config.json). */
const CONTEXT_FIELDS = ['max_position_embeddings', 'n_positions', 'n_ctx', 'max_seq_len', 'seq_length']

/** Positions where nothing says how many a model has. */
const USUAL_CONTEXT = 1024

/** Positions that a model has for text, from the config.json beside it. */
export async function contextOf(modelPath: string): Promise<number> {
  const config = await configBeside(modelPath, 'config.json')
  const found = CONTEXT_FIELDS.map((field) => config[field]).find(
    (value) => Number.isInteger(value) && Number(value) > 0
  )
  return found === undefined ? USUAL_CONTEXT : Number(found)
}

/** Tokens that end a text: of generation_config.json, else of config.json; there may be one or several. */
export async function stopTokensOf(modelPath: string): Promise<ReadonlySet<number>> {
  for (const name of ['generation_config.json', 'config.json']) {
    const { eos_token_id: ids } = await configBeside(modelPath, name)
    const found = [ids].flat().filter((id): id is number => Number.isInteger(id))
    if (found.length > 0) return new Set(found)
  }
  return new Set()
}

/** Labels in the order of the logits, from config.json's `id2label`; undefined where there are none. */
export async function labelsOf(modelPath: string): Promise<string[] | undefined> {
  const { id2label } = await configBeside(modelPath, 'config.json')
  if (id2label === null || typeof id2label !== 'object') return undefined
  const labels = Object.entries(id2label)
    .toSorted(([a], [b]) => Number(a) - Number(b))
    .map(([, label]) => String(label))
  return labels.length < 2 ? undefined : labels
}
