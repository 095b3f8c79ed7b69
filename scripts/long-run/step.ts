/** One part of the long run. */
export interface Step {
  readonly name: string
  /** One sentence: what is done, and what must hold. */
  readonly what: string
  /** How to do this part alone. */
  readonly command: string
  run(): Promise<Outcome>
}

export interface Outcome {
  /** What was counted and measured. */
  readonly facts: Readonly<Record<string, number | string>>
  /** What did not hold; empty where all is well. */
  readonly complaints: readonly string[]
}

export interface StepResult extends Outcome {
  readonly name: string
  readonly what: string
  readonly command: string
  readonly seconds: number
}

/** Where the run took place: seconds and rates mean nothing without it. */
export interface Machine {
  readonly node: string
  readonly platform: string
  readonly processor: string
  readonly cores: number
  readonly memoryGb: number
  /** Mean number of processes that wanted a core in the minute before; 0 on an idle machine. */
  readonly loadBefore: number
}

export interface LongReport {
  /** Day of the run, in UTC. */
  readonly day: string
  readonly machine: Machine
  readonly seconds: number
  readonly steps: readonly StepResult[]
}
