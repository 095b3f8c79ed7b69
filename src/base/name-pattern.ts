/**
 * Whether a dotted name is meant: the whole of it, or a run of its segments, so that `lora_A` means
 * `layers.0.up.lora_A.weight` but not `lora_AB`. `*` stands for anything within a segment.
 */
export function isMeantBy(pattern: string, name: string): boolean {
  const wanted = pattern.split('.').map(segmentTest)
  const segments = name.split('.')
  const last = segments.length - wanted.length
  for (let start = 0; start <= last; start++)
    if (wanted.every((test, index) => test(segments[start + index] as string))) return true
  return false
}

function segmentTest(segment: string): (text: string) => boolean {
  if (!segment.includes('*')) return (text) => text === segment
  const escaped = segment.split('*').map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'))
  const pattern = new RegExp(`^${escaped.join('.*')}$`)
  return (text) => pattern.test(text)
}
