/** Code in documents is no link, even where it looks like one. */
const withoutCode = (text: string): string => text.replace(/^```[\s\S]*?^```/gm, '').replace(/`[^`\n]*`/g, '')

/** What a document links to below its own site: no addresses with a scheme. */
export function linksOf(text: string): string[] {
  const plain = withoutCode(text)
  const inline = [...plain.matchAll(/\]\(<?([^)\s>]+)>?(?:\s+"[^"]*")?\)/g)]
  const references = [...plain.matchAll(/^\[[^\]]+\]:\s*<?([^\s>]+)>?/gm)]
  return [...inline, ...references].map(([, target]) => target as string).filter((link) => !/^[a-z]+:/i.test(link))
}

/** Names of the headings as GitHub makes them: lower case, no punctuation, hyphens for blanks, -1 for the second of a name. */
export function anchorsOf(text: string): Set<string> {
  const names = new Set<string>()
  const seen = new Map<string, number>()
  for (const [, heading] of text.replace(/^```[\s\S]*?^```/gm, '').matchAll(/^#{1,6}\s+(.*?)\s*#*$/gm)) {
    const name = slugOf(heading as string)
    const times = seen.get(name) ?? 0
    seen.set(name, times + 1)
    names.add(times === 0 ? name : `${name}-${times}`)
  }
  return names
}

const slugOf = (heading: string): string =>
  heading
    .replace(/\[([^\]]*)\]\([^)]*\)/g, '$1')
    .toLowerCase()
    .replace(/[^\p{L}\p{N}\p{M} _-]/gu, '')
    .replaceAll(' ', '-')
