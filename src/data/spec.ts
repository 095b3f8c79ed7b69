/**
 * Where a peer's private examples come from. Local to the node, never part of the federation.
 * Paths are used as given; whoever reads a config file resolves them first.
 */
export type DataSpec = FileSpec | UnionSpec

export type FileSpec = GlyphsSpec | TextSpec | JsonlSpec | IdxSpec

/** Stroke-drawn digits and capital letters, drawn when opened: image classification without a file. */
export interface GlyphsSpec {
  readonly kind: 'glyphs'
  /** Classes this peer holds, e.g. ['A', 'K']; each must be one of the task's labels. */
  readonly classes: readonly string[]
  /** Training images, the classes in turn. */
  readonly samples: number
  /** Seed of the training images and of the epochs' order. */
  readonly seed: string
  /** Held-out images, over ALL labels of the task in turn, the same on every peer with the same `testSeed`. */
  readonly testSamples: number
  /** Seed of the held-out images (default 'test'). */
  readonly testSeed?: string
}

/** A plain text file for a causal language model, packed in pieces of `sequenceLength - 1` tokens behind a BOS. */
export interface TextSpec {
  readonly kind: 'text'
  readonly path: string
  /** A tokenizer.json, or a folder that holds one. */
  readonly tokenizer: string
  /** Tokens of one training sequence, BOS included. */
  readonly sequenceLength: number
  /** Seed of the epochs' order. */
  readonly seed: string
  /** Absent: the whole file is this peer's text, its first tenth held out. */
  readonly split?: SpeakerSplit
}

/** A play shared out by speaker (see speakers.ts). Held-out sequences are those of ALL speakers, the same on every peer. */
export interface SpeakerSplit {
  readonly by: 'speaker'
  /** Speakers kept, the largest first (default 32). */
  readonly speakers?: number
  /** Peers the speakers are dealt to. */
  readonly peers: number
  /** Which of the peers this is, from 0; absent: it trains on all speakers. */
  readonly peer?: number
}

/** One JSON object a line: {"text", "label"} for sequence classification, {"text"} for a causal language model. */
export interface JsonlSpec {
  readonly kind: 'jsonl'
  readonly path: string
  /** Held-out rows in a file of their own; absent: the first tenth of `path`, after a seeded shuffle. */
  readonly testPath?: string
  /** A tokenizer.json, or a folder that holds one. */
  readonly tokenizer: string
  /** Tokens of one sequence: longer rows are cut, shorter ones padded. */
  readonly sequenceLength: number
  readonly seed: string
}

/** Images and labels in MNIST's IDX format, plain or .gz: image classification. */
export interface IdxSpec {
  readonly kind: 'idx'
  readonly images: string
  readonly labels: string
  /** Held-out examples; the first `testSamples` after a seeded shuffle. */
  readonly testSamples: number
  readonly seed: string
}

/** Several sources of one kind as one: all their training examples, the held-out examples of the first. */
export interface UnionSpec {
  readonly kind: 'union'
  readonly parts: readonly FileSpec[]
  readonly seed: string
}
