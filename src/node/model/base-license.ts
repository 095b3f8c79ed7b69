import { textBeside } from './model-folder.js'
import { parseYaml } from '../host/yaml-file.js'

/** What a licence may be called: the file is somebody else's, and the name goes into ours. */
const NAME = /^[A-Za-z0-9][\w.+ -]{0,99}$/

/** What the README.md beside a model says of its licence (`license` in its front matter); undefined where it does not. */
export async function licenseOf(modelPath: string): Promise<string | undefined> {
  const text = await textBeside(modelPath, 'README.md')
  const [, frontMatter] = /^---\r?\n([\s\S]*?)\r?\n---/.exec(text ?? '') ?? []
  if (frontMatter === undefined) return undefined
  const { license, license_name: name } = fieldsOf(frontMatter)
  // `other` stands for a licence of the model's own, which has a name beside it.
  const found = license === 'other' && typeof name === 'string' ? name : license
  return typeof found === 'string' && NAME.test(found) ? found : undefined
}

function fieldsOf(text: string): Readonly<Record<string, unknown>> {
  try {
    const { value } = parseYaml('README.md', text)
    return value !== null && typeof value === 'object' ? (value as Record<string, unknown>) : {}
  } catch {
    return {}
  }
}
