import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, relative, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseSync } from 'oxc-parser'
import { describe, expect, it } from 'vitest'

/**
 * The walls of the house: a room imports only from lower layers, rooms of one layer never import each other, no cycles
 * (types included), and third-party runtime packages only in the files named here.
 */
const ROOT = fileURLToPath(new URL('..', import.meta.url))
const SRC = join(ROOT, 'src')

const LAYER: Record<string, number> = {
  base: 0,
  tensor: 1,
  onnx: 2,
  codec: 2,
  data: 2,
  hub: 2,
  autodiff: 3,
  consensus: 3,
  gossip: 3,
  peft: 4,
  train: 4,
  infer: 4,
  checkpoint: 4,
  status: 4,
  node: 5,
  sim: 6,
  cli: 7
}

/**
 * The floors inside a room, lowest first: a sub-room or file imports from the floors below its own, and sub-rooms of one
 * floor never import each other. What lies directly in the room and is not named here is its top floor.
 */
const FLOORS: Readonly<Record<string, readonly (readonly string[])[]>> = {
  autodiff: [['shape', 'emit', 'ops', 'unbroadcast', 'pieces', 'rule'], ['rules']],
  cli: [['failure', 'flags', 'hub-progress', 'lifecycle', 'local-model', 'output', 'status-text'], ['commands']],
  onnx: [['graph'], ['file'], ['int8'], ['runtime'], ['canonical']],
  codec: [['codec'], ['coders', 'wire']],
  data: [['spec'], ['formats', 'batches'], ['splits'], ['text', 'images']],
  consensus: [
    ['peer-id', 'weight', 'median', 'rounds', 'claimed-share', 'keep-latest'],
    ['rules'],
    ['exchange', 'broadcast'],
    ['catch-up', 'partners']
  ],
  gossip: [
    ['transport', 'limits', 'topics', 'channel', 'listeners', 'refusals', 'bans', 'frame-budget', 'bounded'],
    ['discovery'],
    ['libp2p', 'memory']
  ],
  peft: [['method'], ['rewrite', 'files'], ['methods']],
  train: [
    ['moments', 'trainer'],
    ['optimiser', 'process', 'step']
  ],
  node: [['host'], ['config', 'peers'], ['model'], ['participant'], ['learner'], ['pairwise', 'broadcast', 'trained']],
  sim: [['world', 'study'], ['attack'], ['peer', 'workload'], ['verdict']]
}

/** Rooms that must stay free of I/O, clocks and random sources of their own. */
const PURE_ROOMS = ['tensor', 'codec', 'autodiff', 'consensus']
const IO_MODULES = /^node:(fs|net|http|https|dgram|child_process|worker_threads|timers|os)/

/** Which files may import which third-party package. Anything not named here is refused. */
const THIRD_PARTY: readonly { readonly packages: RegExp; readonly files: RegExp }[] = [
  {
    packages: /^uint8arrays(\/.*)?$/,
    files: /^(gossip\/libp2p\/[a-z0-9-]+|codec\/wire\/fields|consensus\/broadcast\/conversation)\.ts$/
  },
  { packages: /^onnxruntime-node$/, files: /^onnx\/runtime\/session\.ts$/ },
  {
    packages: /^(libp2p|@libp2p\/.*|@chainsafe\/.*|@multiformats\/.*|it-.*|uint8arraylist|datastore-core)(\/.*)?$/,
    files: /^gossip\/libp2p\/[a-z0-9-]+\.ts$/
  },
  {
    packages: /^@bufbuild\/protobuf(\/.*)?$/,
    files: /^(onnx\/(file\/(read|write)|graph\/onnx_pb)|codec\/wire\/[a-z_-]+)\.ts$/
  },
  { packages: /^@huggingface\/tokenizers$/, files: /^data\/text\/tokenizer\.ts$/ },
  { packages: /^@huggingface\/hub$/, files: /^hub\/client\.ts$/ },
  { packages: /^@huggingface\/jinja$/, files: /^data\/text\/chat-template\.ts$/ },
  { packages: /^csv-parse$/, files: /^data\/formats\/csv\.ts$/ },
  { packages: /^hyparquet(-compressors)?$/, files: /^data\/formats\/parquet\.ts$/ },
  { packages: /^sharp$/, files: /^data\/images\/images\.ts$/ },
  { packages: /^(hono|@hono\/node-server)(\/.*)?$/, files: /^status\/[a-z-]+\.ts$/ },
  { packages: /^prom-client$/, files: /^status\/[a-z-]+\.ts$/ },
  { packages: /^pino$/, files: /^node\/host\/logger\.ts$/ },
  { packages: /^(zod|yaml)$/, files: /^(node\/config\/[a-z-]+|node\/host\/yaml-file|cli\/[a-z/-]+)\.ts$/ },
  { packages: /^commander$/, files: /^cli\/[a-z/-]+\.ts$/ }
]

interface Import {
  readonly from: string
  readonly specifier: string
}

const sourceFiles = (folder: string): string[] =>
  readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name)
    if (entry.isDirectory()) return sourceFiles(path)
    return entry.name.endsWith('.ts') && !entry.name.endsWith('.d.ts') ? [path] : []
  })

/** Every module a file names: static, type-only, re-exported and dynamic with a literal. */
function importsOf(path: string): Import[] {
  const { module } = parseSync(path, readFileSync(path, 'utf8'))
  const source = readFileSync(path, 'utf8')
  const fixed = [
    ...module.staticImports.map((one) => one.moduleRequest.value),
    ...module.staticExports.flatMap((one) => one.entries.flatMap((entry) => entry.moduleRequest?.value ?? []))
  ]
  const dynamic = module.dynamicImports.flatMap((one) => {
    const literal = source.slice(one.moduleRequest.start, one.moduleRequest.end)
    return /^['"]/.test(literal) ? [literal.slice(1, -1)] : []
  })
  return [...fixed, ...dynamic].map((specifier) => ({ from: relative(SRC, path), specifier }))
}

const roomOf = (file: string): string | undefined => (file.includes('/') ? file.split('/')[0] : undefined)
const targetOf = ({ from, specifier }: Import): string | undefined =>
  specifier.startsWith('.') ? relative(SRC, resolve(SRC, dirname(from), specifier)).replace(/\.js$/, '.ts') : undefined

/** Above every floor that is named. */
const TOP = 99
const isRootFile = (file: string): boolean => file.split('/').length === 2
/** `node/host/logger.ts` -> `host`; `node/wiring.ts` -> `wiring`. */
const subRoomOf = (file: string): string => file.split('/')[1]!.replace(/\.ts$/, '')
const floorOf = (room: string, name: string): number => {
  const floor = (FLOORS[room] ?? []).findIndex((names) => names.includes(name))
  return floor === -1 ? TOP : floor
}

const files = sourceFiles(SRC)
const outside = [join(ROOT, 'scripts'), join(ROOT, 'bench')].flatMap(sourceFiles)
const imports = files.flatMap(importsOf)

describe('architecture', () => {
  it('finds the sources it is meant to guard', () => {
    expect(files.length).toBeGreaterThan(20)
    expect(imports.length).toBeGreaterThan(files.length)
  })

  it('gives every room a layer', () => {
    const rooms = new Set(files.map((file) => roomOf(relative(SRC, file))).filter((room) => room !== undefined))
    expect([...rooms].filter((room) => LAYER[room] === undefined)).toEqual([])
  })

  it('lets a room import only from lower layers, and nobody from the public index', () => {
    const breaches = imports.flatMap((one) => {
      const target = targetOf(one)
      if (target === undefined) return []
      if (target === 'index.ts') return [`${one.from} imports the public index`]
      const [here, there] = [roomOf(one.from), roomOf(target)]
      if (here === undefined || there === undefined || here === there) return []
      return (LAYER[there] ?? 99) < (LAYER[here] ?? 0)
        ? []
        : [`${one.from} (L${LAYER[here]}) imports ${target} (L${LAYER[there]})`]
    })
    expect(breaches).toEqual([])
  })

  it('lets a sub-room import only from the floors below it', () => {
    const breaches = imports.flatMap((one) => {
      const target = targetOf(one)
      const room = roomOf(one.from)
      if (target === undefined || room === undefined || roomOf(target) !== room || !(room in FLOORS)) return []
      const [here, there] = [subRoomOf(one.from), subRoomOf(target)]
      if (here === there || (isRootFile(one.from) && isRootFile(target))) return []
      const [low, high] = [floorOf(room, there), floorOf(room, here)]
      return low < high ? [] : [`${one.from} (floor ${high}) imports ${target} (floor ${low})`]
    })
    expect(breaches).toEqual([])
  })

  it('names every sub-room in FLOORS, and nothing that is not there', () => {
    const there = new Set(files.map((file) => relative(SRC, file)).filter((file) => file.includes('/')))
    const rooms = new Map<string, Set<string>>()
    for (const file of there) rooms.set(roomOf(file)!, (rooms.get(roomOf(file)!) ?? new Set()).add(subRoomOf(file)))
    const unnamed = [...there].filter((file) => !isRootFile(file) && floorOf(roomOf(file)!, subRoomOf(file)) === TOP)
    const gone = Object.entries(FLOORS).flatMap(([room, floors]) =>
      floors.flat().filter((name) => rooms.get(room)?.has(name) !== true)
    )
    expect({ unnamed, gone }).toEqual({ unnamed: [], gone: [] })
  })

  it('has one sentence in ARCHITECTURE.md for every folder of a room', () => {
    const page = readFileSync(join(ROOT, 'ARCHITECTURE.md'), 'utf8')
    const described = [...page.matchAll(/^\| ([a-z0-9/+ -]+) \| .{20,}\|$/gm)].flatMap(([, names]) =>
      names!.split(' + ')
    )
    const folders = new Set(files.map((file) => dirname(relative(SRC, file))).filter((folder) => folder.includes('/')))
    expect(described.toSorted()).toEqual([...folders].toSorted())
  })

  it('has no import cycles in src, scripts and bench, types included', () => {
    const edges = new Map<string, string[]>()
    for (const one of [...imports, ...outside.flatMap(importsOf)]) {
      const target = targetOf(one)
      if (target !== undefined) edges.set(one.from, [...(edges.get(one.from) ?? []), target])
    }
    const done = new Set<string>()
    const cycles: string[] = []
    const visit = (file: string, trail: readonly string[]): void => {
      if (trail.includes(file)) cycles.push([...trail.slice(trail.indexOf(file)), file].join(' -> '))
      if (trail.includes(file) || done.has(file)) return
      for (const next of edges.get(file) ?? []) visit(next, [...trail, file])
      done.add(file)
    }
    for (const file of edges.keys()) visit(file, [])
    expect(cycles).toEqual([])
  })

  it('keeps third-party packages in the files that own them', () => {
    const breaches = imports.flatMap(({ from, specifier }) => {
      if (specifier.startsWith('.') || specifier.startsWith('node:')) return []
      return THIRD_PARTY.some(({ packages, files: allowed }) => packages.test(specifier) && allowed.test(from))
        ? []
        : [`${from} imports ${specifier}`]
    })
    expect(breaches).toEqual([])
  })

  it('keeps pure rooms free of I/O, clocks and random sources', () => {
    const pure = (file: string) => PURE_ROOMS.includes(roomOf(file) ?? '')
    const io = imports.filter(({ from, specifier }) => pure(from) && IO_MODULES.test(specifier))
    const calls = files
      .map((file) => ({ file: relative(SRC, file), text: readFileSync(file, 'utf8') }))
      .filter(
        ({ file, text }) =>
          pure(file) && /\b(Math\.random|Date\.now|performance\.now|setTimeout|setInterval)\b/.test(text)
      )
    expect([
      ...io.map(({ from, specifier }) => `${from} imports ${specifier}`),
      ...calls.map(({ file }) => file)
    ]).toEqual([])
  })

  it('reads the wall clock and Math.random in one place only', () => {
    const offenders = files
      .map((file) => ({ file: relative(SRC, file), text: readFileSync(file, 'utf8') }))
      .filter(({ file, text }) => file !== 'base/clock.ts' && /\b(Math\.random|Date\.now)\(/.test(text))
    expect(offenders.map(({ file }) => file)).toEqual([])
  })
  it('hears what every stream has to say: none is piped, and files are streamed through for await', () => {
    // The error of a stream is an event: pipe carries none from one to the next, and one that nobody hears ends the process.
    const offenders = files.flatMap((file) =>
      readFileSync(file, 'utf8')
        .split('\n')
        .filter((line) => /\.pipe\(/.test(line) || /(?<! of )\bcreate(Read|Write)Stream\(/.test(line))
        .map((line) => `${relative(SRC, file)}: ${line.trim()}`)
    )
    expect(offenders).toEqual([])
  })
})
