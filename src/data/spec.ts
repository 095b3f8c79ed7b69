/**
 * Where a peer's private examples come from. Local to the node, never part of the federation.
 * Paths are used as given; whoever reads a config file resolves them first.
 */
export type DataSpec = FileSpec | UnionSpec

export type FileSpec = GlyphsSpec | TextSpec | RowsSpec | IdxSpec | ImagesSpec | TensorsSpec

/** Tables: a row is an example. */
export type RowsSpec = JsonlSpec | CsvSpec | ParquetSpec

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

/**
 * One source shared out among peers, for experiments: give every peer the same data, `seed` and `peers`, and each its own
 * `peer`. Held-out examples are the same on all of them.
 */
export type PeerSplit = {
  readonly peers: number
  /** Which of the peers this is, from 0; absent: it trains on everything. */
  readonly peer?: number
  /** Of the draw (default 'split'). */
  readonly seed?: string
} & (
  | { readonly by: 'iid' }
  /** Each class spread over the peers by proportions from a Dirichlet distribution: a small alpha is skewed. */
  | { readonly by: 'dirichlet'; readonly alpha: number; readonly minimum?: number; readonly column?: string }
  /** Shares of unequal size, drawn alike. */
  | { readonly by: 'quantity'; readonly alpha: number; readonly minimum?: number }
  /** Each peer holds so many of the classes. */
  | { readonly by: 'class'; readonly classesPerPeer: number; readonly column?: string }
  /** Examples that have the same in this column (a speaker, a writer) stay together. */
  | { readonly by: 'column'; readonly column: string }
)

/** What most sources have in common. */
export interface HoldOut {
  /** Share of the examples that is held out (default 0.1), chosen by their content. */
  readonly heldOut?: number
  /** Seed of that choice (default 'test'): the same on all peers of an experiment. */
  readonly testSeed?: string
  /** Seed of the epochs' order. */
  readonly seed: string
  readonly split?: PeerSplit
}

/** Which columns say what; each task reads some of them. */
export interface ColumnNames {
  /** A text (default 'text'). */
  readonly text?: string
  /** A second text that belongs to the first, as in question and answer: sequence classification, regression. */
  readonly pair?: string
  /** A label, by name or by number; a number to be predicted (default 'label'). */
  readonly label?: string
  /** The words of a sentence and the label of each: token classification (default 'tokens' and 'tags'). */
  readonly words?: string
  readonly tags?: string
  /** A conversation, a list of {role, content}: instruction tuning (default 'messages'). */
  readonly messages?: string
  /** In the place of a conversation: what is asked and what is to be answered. */
  readonly prompt?: string
  readonly completion?: string
}

interface Table extends HoldOut {
  readonly path: string
  /** Held-out rows in a file of their own. */
  readonly testPath?: string
  readonly columns?: ColumnNames
  /** A tokenizer.json, or a folder that holds one. */
  readonly tokenizer: string
  /** Tokens of one sequence: longer rows are cut, shorter ones padded. */
  readonly sequenceLength: number
  /** A Jinja file in the place of the tokenizer's own template: instruction tuning. */
  readonly chatTemplate?: string
  /** A broken row ends it (default), or is left out and counted. */
  readonly badRows?: 'refuse' | 'skip'
}

/** One JSON object a line. */
export interface JsonlSpec extends Table {
  readonly kind: 'jsonl'
}

/** Comma-separated values; the first line names the columns. */
export interface CsvSpec extends Table {
  readonly kind: 'csv'
  /** One character (default a comma); a tab for TSV. */
  readonly delimiter?: string
}

export interface ParquetSpec extends Table {
  readonly kind: 'parquet'
}

/** A folder with a folder of JPEG and PNG files for each label: image classification. */
export interface ImagesSpec extends HoldOut {
  readonly kind: 'images'
  readonly path: string
  /** A folder of the same make whose images are all held out. */
  readonly testPath?: string
  /** Pixels of height and width, where the model leaves them open. */
  readonly size?: readonly number[]
  /** How another shape is brought to that size: stretched (default), cut at the sides, or with black bars. */
  readonly fit?: 'stretch' | 'cut' | 'bars'
  /** Of each channel, taken from pixels from 0 to 1 and divided by (default 0 and 1). */
  readonly mean?: readonly number[]
  readonly std?: readonly number[]
  /** A broken image ends it (default), or is left out and counted. */
  readonly badRows?: 'refuse' | 'skip'
}

/** Numbers in .npy or .safetensors files, the first axis of each being the examples: any other modality. */
export interface TensorsSpec extends HoldOut {
  readonly kind: 'tensors'
  /** By name of the model's input: a file, `file.safetensors#name` for a tensor that is called otherwise. */
  readonly inputs: Readonly<Record<string, string>>
  readonly labels: string
  /** A folder with files of the same names, or a .safetensors file with tensors of the same names, all held out. */
  readonly testPath?: string
}

/** Images and labels in MNIST's IDX format, plain or .gz: image classification. */
export interface IdxSpec {
  readonly kind: 'idx'
  readonly images: string
  readonly labels: string
  /** Held-out examples; the first `testSamples` after a seeded shuffle. */
  readonly testSamples: number
  readonly seed: string
  readonly split?: PeerSplit
}

/** Several sources of one kind as one: all their training examples, the held-out examples of the first. */
export interface UnionSpec {
  readonly kind: 'union'
  readonly parts: readonly FileSpec[]
  readonly seed: string
}
