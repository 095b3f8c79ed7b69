import * as f from './fields.js'

/** The `data` section of a node's configuration: where its private examples come from, see data/spec.ts. */

/** Data sources of one union, each opened at the start. */
const MAX_PARTS = 256
const MAX_PEERS = 100_000
/** Inputs of one model. */
const MAX_INPUTS = 32

const seed = () => f.text('a seed text', { max: 256 })
const sequenceLength = () => f.wholeNumber(2, 131_072).default(128)
const column = () => f.text('the name of a column', { max: 1024 })

const speakerSplit = f.section({
  by: f.exactly('speaker'),
  speakers: f.wholeNumber(1, MAX_PEERS).default(32),
  peers: f.wholeNumber(1, MAX_PEERS),
  peer: f.wholeNumber(0, MAX_PEERS - 1).exactOptional()
})

const sharing = {
  peers: f.wholeNumber(1, MAX_PEERS),
  peer: f.wholeNumber(0, MAX_PEERS - 1).exactOptional(),
  seed: seed().default('split')
}
const alpha = f.number({ above: 0, max: 1_000_000 })
const minimum = f.wholeNumber(0, 1_000_000).exactOptional()

const split = f.variants('by', [
  f.section({ by: f.exactly('iid'), ...sharing }),
  f.section({ by: f.exactly('dirichlet'), alpha, minimum, column: column().exactOptional(), ...sharing }),
  f.section({ by: f.exactly('quantity'), alpha, minimum, ...sharing }),
  f.section({
    by: f.exactly('class'),
    classesPerPeer: f.wholeNumber(1, 100_000),
    column: column().exactOptional(),
    ...sharing
  }),
  f.section({ by: f.exactly('column'), column: column(), ...sharing })
])

const holdOut = {
  heldOut: f.number({ min: 0, max: 0.9 }).default(0.1),
  testSeed: seed().default('test'),
  seed: seed().default('train'),
  split: split.exactOptional()
}

const badRows = () => f.oneOf(['refuse', 'skip']).default('refuse')

const columns = f.section({
  text: column().exactOptional(),
  pair: column().exactOptional(),
  label: column().exactOptional(),
  words: column().exactOptional(),
  tags: column().exactOptional(),
  messages: column().exactOptional(),
  prompt: column().exactOptional(),
  completion: column().exactOptional()
})

const table = (what: string) => ({
  path: f.path(what),
  testPath: f.path(what).exactOptional(),
  columns: columns.prefault({}),
  tokenizer: f.path('a tokenizer.json'),
  sequenceLength: sequenceLength(),
  chatTemplate: f.path('a Jinja template').exactOptional(),
  badRows: badRows(),
  ...holdOut
})

const pixels = () => f.wholeNumber(1, 8192)
const channels = (of: string) => f.list(f.number({ min: -1000, max: 1000 }), { of, min: 1, max: 3 }).exactOptional()

const fileSpecs = [
  f.section({
    kind: f.exactly('glyphs'),
    classes: f.list(f.text('a class'), { of: 'classes', min: 1, max: 1000, distinct: true }),
    samples: f.wholeNumber(1, 10_000_000),
    seed: seed().default('train'),
    testSamples: f.wholeNumber(1, 1_000_000).default(520),
    testSeed: seed().default('test')
  }),
  f.section({
    kind: f.exactly('text'),
    path: f.path('a text file'),
    tokenizer: f.path('a tokenizer.json'),
    sequenceLength: sequenceLength(),
    seed: seed().default('train'),
    split: speakerSplit.exactOptional()
  }),
  f.section({ kind: f.exactly('jsonl'), ...table('a .jsonl file') }),
  f.section({
    kind: f.exactly('csv'),
    delimiter: f.matching(/^[^"\r\n]$/u, 'one character').default(','),
    ...table('a .csv file')
  }),
  f.section({ kind: f.exactly('parquet'), ...table('a .parquet file') }),
  f.section({
    kind: f.exactly('images'),
    path: f.path('a folder with a folder of images for each label'),
    testPath: f.path('a folder of images').exactOptional(),
    size: f.list(pixels(), { of: 'numbers, height and width', min: 2, max: 2 }).exactOptional(),
    fit: f.oneOf(['stretch', 'cut', 'bars']).default('stretch'),
    mean: channels('means, one a channel'),
    std: f.list(f.number({ above: 0, max: 1000 }), { of: 'deviations, one a channel', min: 1, max: 3 }).exactOptional(),
    badRows: badRows(),
    ...holdOut
  }),
  f.section({
    kind: f.exactly('tensors'),
    inputs: f.mapping(f.path('a .npy or .safetensors file'), { of: 'inputs of the model', max: MAX_INPUTS }),
    labels: f.path('a .npy or .safetensors file of labels'),
    testPath: f.path('a folder with files of the same names, or a .safetensors file').exactOptional(),
    ...holdOut
  }),
  f.section({
    kind: f.exactly('idx'),
    images: f.path('an IDX file of images'),
    labels: f.path('an IDX file of labels'),
    testSamples: f.wholeNumber(1, 1_000_000).default(1000),
    seed: seed().default('train'),
    split: split.exactOptional()
  })
] as const

export const dataSpec = f.variants('kind', [
  ...fileSpecs,
  f.section({
    kind: f.exactly('union'),
    parts: f.list(f.variants('kind', fileSpecs), { of: 'data sources', min: 1, max: MAX_PARTS }),
    seed: seed().default('train')
  })
])
