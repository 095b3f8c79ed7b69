import type { Batch } from '../data/batches/batch.js'
import type { PeftPlan, TaskSpec } from '../base/federation.js'
import type { ParameterSchema } from '../tensor/schema.js'
import type { Moments } from './moments.js'

export type Device = 'auto' | 'cpu' | 'cuda' | 'webgpu' | 'coreml' | 'dml'

/** Everything a trainer needs to build its graph; plain JSON, it crosses a process boundary. */
export interface TrainerSpec {
  /** Path of the base model's .onnx file. */
  readonly modelPath: string
  readonly task: TaskSpec
  readonly peft: PeftPlan
  /** Of a sparse method whose mask stands in a file. */
  readonly maskFile?: string
  readonly device: Device
  /** Threads of one operator (intra-op); 1 is right when several peers share a machine. */
  readonly threads: number
  /** Examples that go through the graph at once; the gradients of a larger batch are added up. All by default. */
  readonly microBatch?: number
  /** Megabytes that one step's activations may take: layers run twice where that is needed to stay below. */
  readonly memoryMb?: number
  /** Megabytes kept of what frozen layers give for an example; 0 for none. */
  readonly activationCacheMb?: number
  /** Of training steps; evaluation is always float32. Default: `float32`. `int8` is for the CPU alone. */
  readonly arithmetic?: Arithmetic
}

/** Numbers that products with frozen matrices are computed in. `int8`: faster, with an error; see onnx/int8/products.ts. */
export type Arithmetic = 'float32' | 'int8'

export interface TrainerDescription {
  readonly schema: ParameterSchema
  /** The common seeded start x0, float32[schema.size]; the same bits on every peer. */
  readonly initial: Float32Array
  /** The model's own inputs, as exported: a symbolic dimension is a name. What data must feed. */
  readonly inputs: readonly {
    readonly name: string
    readonly shape: readonly (number | string)[]
    readonly type?: string
  }[]
  /** SHA-256 (hex) of the base model, as in the federation manifest. */
  readonly modelSha256: string
  /** The device that really runs the graph, and why it is not the one asked for where it differs. */
  readonly device: {
    readonly used: Exclude<Device, 'auto'>
    readonly reason?: string
    /** Of a small graph's nodes, how many the device ran itself; only where it was measured. */
    readonly nodeShare?: number
  }
}

export interface StepResult {
  /** Over the labels that count: mean cross entropy in nats; of a regression, mean squared error. */
  readonly loss: number
  /** float32[schema.size], d loss / d parameters in schema order. */
  readonly gradients: Float32Array
  /** Cosine between these gradients and those in float32, where both were computed: the first step in int8. */
  readonly float32Cosine?: number
}

export interface EvaluationResult {
  /** Sum of cross entropies in nats, or of squared errors, over the labels that count. */
  readonly lossSum: number
  /** Labels that count. */
  readonly count: number
  /** Labels where the largest logit is the right one; 0 in a regression. */
  readonly correct: number
  /** Of a regression. */
  readonly moments?: Moments
}

export interface StepOptions {
  /** Rejects with the signal's reason. What is under way goes on to its end unseen, what waits is never begun. */
  readonly signal?: AbortSignal
}

/**
 * Loss and gradients of the frozen model with `parameters` put in. Keeps no parameters of its own: whoever calls owns
 * them, so a trainer that dies takes nothing with it. Implementations: in this process, or a child process.
 */
export interface Trainer {
  readonly description: TrainerDescription
  /** Throws `train/*` errors; a rejected step changed nothing. */
  step(parameters: Float32Array, batch: Batch, options?: StepOptions): Promise<StepResult>
  evaluate(parameters: Float32Array, batch: Batch, options?: StepOptions): Promise<EvaluationResult>
  close(): Promise<void>
}
