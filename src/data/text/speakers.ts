/** One speaker of a play and all that he or she says, the speeches joined by a blank line. */
export interface Speaker {
  readonly name: string
  readonly text: string
}

/** Speakers kept of a play unless told otherwise: the rest say too little to hold some of it out. */
const DEFAULT_SPEAKERS = 32

/**
 * The speakers of a play in plain text, the one with the most to say first (ties: who speaks first).
 * Speeches are separated by blank lines; the first line of each is `NAME:` and does not count as speech.
 * What stands in a block of its own without a speaker's name (a title) is left out.
 */
export function splitSpeakers(play: string, keep = DEFAULT_SPEAKERS): Speaker[] {
  const speeches = new Map<string, string[]>()
  for (const block of play.split(/\n(?:[^\S\n]*\n)+/)) {
    const [first = '', ...lines] = block.trim().split('\n')
    if (!first.endsWith(':') || lines.length === 0) continue
    const name = first.slice(0, -1)
    const said = speeches.get(name)
    if (said === undefined) speeches.set(name, [lines.join('\n')])
    else said.push(lines.join('\n'))
  }
  return [...speeches]
    .map(([name, said]) => ({ name, text: said.join('\n\n') }))
    .sort((a, b) => b.text.length - a.text.length)
    .slice(0, keep)
}

/** Which of `count` speakers (in order of size) peer `peer` of `peers` holds: every `peers`-th, from its own place. */
export const speakersOfPeer = (count: number, peer: number, peers: number): number[] =>
  Array.from({ length: count }, (_, i) => i).filter((i) => i % peers === peer)
