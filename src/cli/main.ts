#!/usr/bin/env node
import '../base/polyfill.js'
import './check-node.js'
import { Command, CommanderError } from 'commander'
import { packageVersion } from '../node/host/version.js'
import type { ConfigOptions } from './commands/config.js'
import type { DataOptions } from './commands/data.js'
import type { EvalOptions } from './commands/eval.js'
import type { ExportOptions } from './commands/export.js'
import type { PredictCommandOptions } from './commands/predict.js'
import type { GenerateOptions } from './commands/generate.js'
import type { DoctorCommandOptions } from './commands/doctor.js'
import type { InspectCommandOptions } from './commands/inspect.js'
import type { QuantizeOptions } from './commands/quantize.js'
import type { CreateFederationOptions } from './commands/federation.js'
import type { IdentityOptions } from './commands/identity.js'
import type { ImportOptions } from './commands/import.js'
import type { MaskOptions } from './commands/mask.js'
import type { MethodsOptions } from './commands/methods.js'
import type { SimulateOptions } from './commands/simulate.js'
import type { SloraOptions } from './commands/slora.js'
import type { StartOptions } from './commands/start.js'
import type { StatusOptions } from './commands/status.js'
import { EXIT_OK, EXIT_USAGE, exitCodeOf, failureText } from './failure.js'
import { createOutput } from './output.js'

/** Commands load what they need when they run: help and mistakes in flags answer at once. */
const out = createOutput((text) => process.stdout.write(text))
const { env } = process
const TASK_HELP =
  'causal-lm, instruction-tuning, sequence-classification, token-classification, image-classification or regression'
let exitCode = EXIT_OK

const program = new Command('peertune')
  .description('Fine-tune a model together with other peers, without a server')
  .version(packageVersion())
  .exitOverride()

/** What a model may be given as. */
const MODEL = 'an .onnx file, a folder with one, or org/name[@revision][:file] of the Hugging Face hub'

const withModel = async <Options extends { readonly model?: string }>(options: Options): Promise<Options> =>
  (await import('./local-model.js')).withLocalModel(options, env)

const adapterFolder = async (reference: string): Promise<string> =>
  (await import('./local-model.js')).localAdapter(reference, env)

/** Flags that override the configuration file. */
const withOverrides = (command: Command): Command =>
  command
    .option('--bootstrap <addresses...>', 'peers to try first, with their peer ids')
    .option('--listen <addresses...>', 'addresses to listen on')
    .option('--http-port <port>', 'port of the status page; 0 for any free one')
    .option('--data-dir <dir>', 'where identity, checkpoints and lock are kept')
    .option('--log-level <level>', 'debug, info, warn, error or silent')

withOverrides(program.command('start'))
  .description('run a node until it is stopped: Ctrl-C writes a checkpoint and leaves, a second one quits at once')
  .requiredOption('--config <file>', "the node's configuration (YAML)")
  .option('--json', 'say where it listens as one line of JSON')
  .action(async (options: StartOptions) => {
    const { start } = await import('./commands/start.js')
    exitCode = await start(options, env, out)
  })

withOverrides(program.command('config'))
  .description('check a configuration')
  .option('--config <file>', 'the configuration; without it, one to start from')
  .option('--print', 'print the whole of it as YAML, every default included')
  .action(async (options: ConfigOptions) => (await import('./commands/config.js')).config(options, env, out))

withOverrides(program.command('data'))
  .description("open a configuration's data and print what this peer holds, and what each peer of a split does")
  .requiredOption('--config <file>', "the node's configuration (YAML)")
  .option('--json', 'as JSON')
  .action(async (options: DataOptions) => (await import('./commands/data.js')).data(options, env, out))

program
  .command('status')
  .description('ask a running node how it is')
  .option('--url <url>', 'of its status page')
  .option('--data-dir <dir>', 'its data directory')
  .option('--config <file>', 'its configuration')
  .option('--json', 'the whole status as JSON')
  .action(async (options: StatusOptions) => (await import('./commands/status.js')).status(options, env, out))

program
  .command('identity')
  .description('print the peer id of a data directory; a new one is made where there is none')
  .option('--data-dir <dir>', 'the data directory')
  .option('--json', 'as JSON')
  .action(async (options: IdentityOptions) => (await import('./commands/identity.js')).identity(options, env, out))

program
  .command('key')
  .description('make the key of a private network')
  .argument('[file]', 'where to write it (0600); without it, on stdout')
  .action(async (file: string | undefined) => (await import('./commands/key.js')).key(file, out))

program
  .command('methods')
  .description('list the methods that can be trained')
  .option('--model <model>', `count the parameters of each on this model; ${MODEL}`)
  .option('--json', 'as JSON')
  .action(async (options: MethodsOptions) =>
    (await import('./commands/methods.js')).methods(await withModel(options), out)
  )

program
  .command('export')
  .description('write what a node has learned as a folder for Hugging Face PEFT, with a model card')
  .requiredOption('--data-dir <dir>', "the node's data directory")
  .requiredOption('--out <folder>', 'where to write it')
  .option('--part <name>', 'of a shared and a private adapter: all, shared or private', 'all')
  .option('--merged <file>', 'write the base model with the adapter merged into it, too (.onnx)')
  .option('--no-evaluation', 'do not evaluate it for the model card')
  .option('--json', 'as JSON')
  .action(async (options: ExportOptions) => (await import('./commands/export.js')).exportTrained(options, out))

program
  .command('import')
  .description('print a manifest for a federation that starts from an adapter folder of Hugging Face PEFT')
  .argument('<folder>', 'with adapter_config.json and adapter_model.safetensors')
  .requiredOption('--model <model>', `the base model; ${MODEL}`)
  .requiredOption('--name <name>', 'name of the federation')
  .requiredOption('--task <kind>', TASK_HELP)
  .option('--labels <names...>', 'labels of a classification, in the order of the logits')
  .action(async (folder: string, options: ImportOptions) =>
    (await import('./commands/import.js')).importAdapter(await adapterFolder(folder), await withModel(options), out)
  )

program
  .command('slora')
  .description("turn what a sparse method has learned into the start of a LoRA federation: SLoRA's second stage")
  .argument('<folder>', 'what `peertune export` wrote of the first stage')
  .requiredOption('--model <model>', `the base model; ${MODEL}`)
  .requiredOption('--out <folder>', 'where to write the start')
  .option('--rank <n>', 'rank of the factors', '8')
  .option('--alpha <x>', 'scale of the factors, over the rank', '16')
  .option('--mask-file <file>', 'of a first stage whose mask stands in a file')
  .option('--json', 'as JSON')
  .action(async (folder: string, options: SloraOptions) =>
    (await import('./commands/slora.js')).slora(folder, await withModel(options), out)
  )

withOverrides(program.command('mask'))
  .description(
    'choose the elements that a sparse method trains by Fisher information, and print the manifest that says so'
  )
  .requiredOption('--config <file>', "a node's configuration, whose data and manifest are taken")
  .requiredOption('--out <file>', 'where to write the mask (.safetensors)')
  .option('--examples <n>', 'training examples to go by', '256')
  .action(async (options: MaskOptions) => (await import('./commands/mask.js')).mask(options, env, out))

withOverrides(program.command('eval'))
  .description("evaluate on a configuration's held-out data: an adapter, the last checkpoint, or the start")
  .requiredOption('--config <file>', "the node's configuration (YAML)")
  .option('--adapter <folder>', 'an adapter folder')
  .option('--json', 'as JSON')
  .action(async (options: EvalOptions) => (await import('./commands/eval.js')).evaluate(options, env, out))

/** Where a trained model comes from. */
const withTrained = (command: Command): Command =>
  command
    .option('--model <model>', `a base model; ${MODEL}`)
    .option('--config <file>', "a node's configuration (YAML), with what the node has learned")
    .option('--data-dir <dir>', "a node's data directory, with what the node has learned")
    .option('--adapter <folder>', 'an adapter folder, in the place of what the node has learned')

withTrained(program.command('generate'))
  .description('write a text that follows a prompt, with an adapter or what a node has learned in use')
  .requiredOption('--prompt <text>', 'what the text begins with')
  .option('--tokenizer <path>', 'a tokenizer.json; by default that of the node, or the one beside the model')
  .option('--chat', "the prompt is what a user says: put it into the tokenizer's chat template")
  .option('--system <text>', 'with --chat: what the conversation begins with')
  .option('--max-tokens <n>', 'tokens to write at most', '100')
  .option('--temperature <x>', 'how freely tokens are drawn; 0: always the likeliest', '0')
  .option('--top-k <n>', 'draw among so many of the likeliest; 0: all', '0')
  .option('--top-p <x>', 'draw among the likeliest that have this probability together', '1')
  .option('--seed <text>', 'of the draws', 'peertune')
  .option('--json', 'as JSON, with token ids and why it stopped')
  .action(async (options: GenerateOptions) => (await import('./commands/generate.js')).generate(options, env, out))

withTrained(program.command('predict'))
  .description('say what a classifier makes of texts, rows of a file, or images')
  .argument('[inputs...]', 'texts, or image files')
  .option('--file <file>', 'rows of a .jsonl, .csv, .tsv or .parquet file')
  .option('--column <name>', 'its column with the text, or the path of the image', 'text')
  .option('--pair <name>', 'its column with a second text')
  .option('--task <kind>', 'of a base model alone, where its config.json does not tell')
  .option(
    '--labels <names...>',
    'of a base model alone, in the order of the logits, where its config.json does not tell'
  )
  .option('--tokenizer <path>', 'a tokenizer.json; by default that of the node, or the one beside the model')
  .option('--top <n>', 'labels to show of each input', '5')
  .option('--json', 'as JSON, every label with its probability')
  .action(async (inputs: string[], options: PredictCommandOptions) =>
    (await import('./commands/predict.js')).predict(inputs, options, env, out)
  )

program
  .command('simulate')
  .description('play a whole network on a virtual clock: consensus, loss, bytes, and whether every promise was kept')
  .argument('<file>', 'the scenario (YAML)')
  .option('--seed <text>', "in the place of the scenario's own")
  .option('--json', 'the whole result as JSON')
  .option('--plot', 'draw consensus distance and loss')
  .action(async (file: string, options: Omit<SimulateOptions, 'file'>) => {
    exitCode = await (await import('./commands/simulate.js')).simulate({ ...options, file }, env, out)
  })

program
  .command('inspect')
  .description('say what a model is, what can be trained in it, and what a training step takes')
  .argument('<model>', `the model: ${MODEL}`)
  .option('--batch <n>', 'examples in a batch, for the estimate of memory', '1')
  .option('--seq <n>', 'length of a sequence', '128')
  .option('--json', 'as JSON')
  .action(async (model: string, options: InspectCommandOptions) =>
    (await import('./commands/inspect.js')).inspect((await withModel({ model })).model, options, out)
  )

program
  .command('quantize')
  .description('write a model with int4 or int8 linear layers, for adapters to be trained on')
  .argument('<model>', `the model, in float32: ${MODEL}`)
  .requiredOption('--out <file>', 'where to write it (.onnx)')
  .option('--bits <n>', '4 or 8', '4')
  .option('--block <n>', 'weights that share a scale', '32')
  .option('--keep <modules...>', 'layers that stay as they are; by default lm_head, classifier and score')
  .option('--json', 'as JSON')
  .action(async (model: string, options: QuantizeOptions) =>
    (await import('./commands/quantize.js')).quantize((await withModel({ model })).model, options, out)
  )

program
  .command('doctor')
  .description('look at this machine: versions, devices, memory, disk, clock')
  .option('--data-dir <dir>', 'the data directory that a node would use')
  .option('--json', 'as JSON')
  .action(async (options: DoctorCommandOptions) => {
    const { doctor } = await import('./commands/doctor.js')
    exitCode = await doctor(options, env, out)
  })

const federation = program.command('federation').description('manifests of federations')

federation
  .command('hash')
  .description('check a manifest and print the hash by which its peers know each other')
  .argument('<file>', 'the manifest (YAML)')
  .option('--json', 'as JSON')
  .action(async (file: string, options: { json?: boolean }) =>
    (await import('./commands/federation.js')).hashFederation(file, options, out)
  )

federation
  .command('create')
  .description('print a manifest for a model')
  .requiredOption('--model <model>', `the base model; ${MODEL}`)
  .requiredOption('--name <name>', 'name of the federation')
  .requiredOption('--task <kind>', TASK_HELP)
  .option('--labels <names...>', 'labels of a classification, in the order of the logits')
  .option('--method <name>', 'one that `peertune methods` lists', 'lora')
  .option('--targets <modules...>', 'modules that get an adapter, such as q_proj')
  .option('--head <modules...>', 'modules trained whole, such as classifier')
  .option('--rank <n>', 'rank of the adapters')
  .option('--alpha <x>', 'scale of the adapters, over the rank')
  .option('--local-steps <n>', 'local steps between two exchanges')
  .option('--peers <n>', 'peers expected; up to 17 send a quarter of the elements in 4 bits, more int8', '8')
  .option('--codec <name>', 'how parameters are coded, in the place of what fits so many peers')
  .option('--fraction <x>', 'share of the elements that a sparse codec sends')
  .requiredOption('--seed <text>', 'seed of the common start')
  .action(async (options: CreateFederationOptions) =>
    (await import('./commands/federation.js')).createFederation(await withModel(options), out)
  )

/** A reader such as `head` may leave before everything is written. */
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error
})

const debug = env.PEERTUNE_LOG_LEVEL === 'debug' || /--log-level[= ]debug/.test(process.argv.join(' '))

try {
  await program.parseAsync()
} catch (error) {
  if (error instanceof CommanderError) exitCode = error.exitCode === 0 ? EXIT_OK : EXIT_USAGE
  else {
    process.stderr.write(`${failureText(error, { debug })}\n`)
    exitCode = exitCodeOf(error)
  }
}
// libp2p's timers would hold the process for another second after everything is closed.
process.exit(exitCode)
