/** Control characters, C1 included, and the marks that reorder what is shown: a peer could rewrite a terminal's line. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is replaced
const UNPRINTABLE = /[\u0000-\u001f\u007f-\u009f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]/g

/** `text` fit for one line of a terminal, whoever wrote it. */
export const printable = (text: string): string => text.replace(UNPRINTABLE, '\u{fffd}')
