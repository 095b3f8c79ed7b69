import type { SourceFile } from './sources.js'
import { nodesOf } from './sources.js'

/** Prefixes under which a refusal code is counted here: `exchange/busy` is `busy`, said to us or by us. */
const PREFIXES = ['exchange/', 'state/']

/** The codes that partners tell each other: the members of the type `RefusalCode`. */
export function refusalCodes(files: readonly SourceFile[]): readonly string[] {
  for (const file of files)
    for (const { node } of nodesOf(file)) {
      if (node.type !== 'TSTypeAliasDeclaration' || node.id.name !== 'RefusalCode') continue
      if (node.typeAnnotation.type !== 'TSUnionType') continue
      return node.typeAnnotation.types.flatMap((type) =>
        type.type === 'TSLiteralType' && type.literal.type === 'Literal' ? [String(type.literal.value)] : []
      )
    }
  return []
}

/** The refusal code that a code stands for, where it is one under another name. */
export function refusalOf(code: string, refusals: readonly string[]): string | undefined {
  const prefix = PREFIXES.find((one) => code.startsWith(one))
  const rest = prefix === undefined ? undefined : code.slice(prefix.length)
  return rest !== undefined && refusals.includes(rest) ? rest : undefined
}
