/** How the learning rate moves over the local steps of one peer. Plain JSON: it is part of a config. */
export type Schedule =
  | { readonly kind: 'constant'; readonly warmupSteps?: number }
  /** Half a cosine, from the peak after the warm-up to 0 at `totalSteps`. */
  | { readonly kind: 'cosine'; readonly totalSteps: number; readonly warmupSteps?: number }

/**
 * The factor in [0, 1] to scale the peak learning rate with, after `step` steps were taken (0 for the first).
 * The same numbers as get_constant_schedule_with_warmup and get_cosine_schedule_with_warmup of Hugging Face
 * transformers (optimization.py): the warm-up rises linearly from 0, and past `totalSteps` the factor stays 0.
 */
export function scheduleFactor(schedule: Schedule, step: number): number {
  const warmupSteps = schedule.warmupSteps ?? 0
  if (step < warmupSteps) return step / warmupSteps
  if (schedule.kind === 'constant') return 1
  if (step >= schedule.totalSteps) return 0
  const progress = (step - warmupSteps) / (schedule.totalSteps - warmupSteps)
  return 0.5 * (1 + Math.cos(Math.PI * progress))
}
