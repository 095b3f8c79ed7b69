import type { Step, StepResult } from './step.js'

export interface Phase {
  /** Steps that run beside each other. */
  readonly atOnce: number
  readonly steps: readonly Step[]
}

/** Runs phase after phase, whatever a step says; results in the order of the steps. A step that throws is one that did not hold. */
export async function runPhases(
  phases: readonly Phase[],
  now: () => number,
  say: (line: string) => void
): Promise<readonly StepResult[]> {
  const results: StepResult[] = []
  for (const { atOnce, steps } of phases) {
    const waiting = [...steps]
    const done = new Map<Step, StepResult>()
    const work = async (): Promise<void> => {
      for (let step = waiting.shift(); step !== undefined; step = waiting.shift())
        done.set(step, await runStep(step, now, say))
    }
    await Promise.all(Array.from({ length: atOnce }, work))
    results.push(...steps.flatMap((step) => done.get(step) ?? []))
  }
  return results
}

async function runStep(step: Step, now: () => number, say: (line: string) => void): Promise<StepResult> {
  const startedAt = now()
  const { facts, complaints } = await step.run().catch((error: unknown) => ({ facts: {}, complaints: [String(error)] }))
  const seconds = (now() - startedAt) / 1000
  say(`${complaints.length === 0 ? 'held  ' : 'BROKEN'} ${step.name} (${seconds.toFixed(0)} s)`)
  for (const complaint of complaints) say(`  ${complaint}`)
  const { name, what, command } = step
  return { name, what, command, seconds, facts, complaints }
}
