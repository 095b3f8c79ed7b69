import type { FederationManifest } from '../../base/federation.js'
import { isPrivate, specsOf } from '../../base/peft-spec.js'
import { isPrivateName } from '../../peft/method/private.js'
import type { ParameterSchema } from '../../tensor/schema.js'
import { type Selection, selectTensors } from '../../tensor/selection.js'

/**
 * Names for patterns of `share`. FedSA-LoRA (Guo et al. 2025, https://arxiv.org/abs/2410.01463) shares A, which learns
 * what is common, and keeps B, which learns what is one's own; heads stay at home, too.
 */
const SHARE_PRESETS: Readonly<Record<string, readonly string[]>> = { 'fedsa-lora': ['lora_A'] }

/** What a manifest's `share` stands for: a preset's patterns, or those given. */
export const sharePatterns = (share: string | readonly string[]): readonly string[] =>
  typeof share === 'string' ? (SHARE_PRESETS[share] ?? [share]) : share

/** What peers exchange of the parameters: what the manifest shares, and nothing of a private method. */
export function sharedPart(
  { share, peft }: Pick<FederationManifest, 'share' | 'peft'>,
  schema: ParameterSchema
): Selection {
  const mayBe = specsOf(peft).some(isPrivate) ? (name: string) => !isPrivateName(name) : undefined
  return selectTensors(schema, share, mayBe)
}
