import { PeertuneError } from '../base/errors.js'

/** Where exporters put a model, the first that is there. */
const USUAL_FILES = ['model.onnx', 'onnx/model.onnx'] as const

/** Names of files that an error repeats. */
const NAMED_FILES = 8

/** What stands in an error about a folder or a repository. */
export interface Place {
  /** As the operator wrote it. */
  readonly name: string
  readonly files: readonly string[]
  /** How one of the files is named: `org/name:` in front of it, or the folder. */
  readonly prefix: string
}

/** The .onnx file that is meant. Throws `config/no-model` with what is there instead. */
export function chooseFile({ name, files, prefix }: Place): string {
  const usual = USUAL_FILES.find((file) => files.includes(file))
  if (usual !== undefined) return usual
  const models = files.filter((file) => file.endsWith('.onnx'))
  const others = files.filter((file) => /\.(safetensors|bin|pt|gguf)$/.test(file))
  const found = models.length > 0 ? models : others
  const what = found.length === 0 ? 'no model at all' : listed(found)
  throw new PeertuneError('config/no-model', `${name}: expected ${USUAL_FILES.join(' or ')}, found ${what}`, {
    facts: { model: name, expected: [...USUAL_FILES], found },
    hint:
      models[0] === undefined
        ? 'export it to ONNX first: optimum-cli export onnx --model MODEL FOLDER'
        : `name the file: ${prefix}${models[0]}`
  })
}

const listed = (names: readonly string[]): string =>
  names.length <= NAMED_FILES
    ? names.join(', ')
    : `${names.slice(0, NAMED_FILES).join(', ')} and ${names.length - NAMED_FILES} more`
