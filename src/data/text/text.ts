import { readFile } from 'node:fs/promises'
import { PeertuneError } from '../../base/errors.js'
import { IGNORED_LABEL } from '../batches/batch.js'
import { causalCollator, type Example, type ModelInputs, tokenInputsOf } from '../batches/collate.js'
import type { DatasetParts } from '../batches/dataset.js'
import { emptyFile, reading, statFile } from '../formats/files.js'
import type { OpenOptions } from '../formats/progress.js'
import type { SpeakerSplit, TextSpec } from '../spec.js'
import { speakersOfPeer, splitSpeakers } from './speakers.js'
import { type FlatText, packTextElsewhere } from './off-thread.js'
import { openTokenizer, type Tokenizer } from './tokenizer.js'

/** Bytes of one text file: it is read whole, and its tokens take about as much again. */
const MAX_TEXT_BYTES = 256 * 1024 * 1024

/** Bytes of a text that is tokenised where it is asked for: some 10 ms. */
const MAX_BYTES_HERE = 2048

/** The part of a text that is held out: one sequence in ten, at least one. */
const HELD_OUT_TENTH = 10

/** Training and held-out sequences, each of `sequenceLength` tokens. */
export interface PackedText {
  readonly training: readonly Example[]
  readonly heldOut: readonly Example[]
}

/**
 * A text file as a causal language-modelling dataset. With a speaker split, held-out sequences are those of all
 * speakers. Throws `data/no-file`, `data/empty`, `data/file-too-large`, `data/bad-split`, and the tokenizer's errors.
 */
export async function readTextFile(
  spec: TextSpec,
  model: ModelInputs,
  { signal }: OpenOptions = {}
): Promise<DatasetParts> {
  const inputs = tokenInputsOf(model)
  const { size } = await statFile(spec.path)
  const flat = await (size > MAX_BYTES_HERE ? packTextElsewhere(spec, signal) : packTextFile(spec))
  const training = sequencesIn(flat.training, spec.sequenceLength)
  const heldOut = sequencesIn(flat.heldOut, spec.sequenceLength)
  if (training.length === 0)
    throw new PeertuneError('data/empty', `${spec.path} holds no training sequence of ${spec.sequenceLength} tokens`, {
      facts: { file: spec.path, sequenceLength: spec.sequenceLength, heldOut: heldOut.length },
      hint: 'give more text or shorter sequences'
    })
  return { training, heldOut, seed: spec.seed, collate: causalCollator(inputs, spec.sequenceLength) }
}

/** All that reading a text costs. Throws as `readTextFile` does. */
export async function packTextFile({ path, tokenizer: file, split, sequenceLength }: TextSpec): Promise<FlatText> {
  const tokenizer = await openTokenizer(file)
  const text = await readText(path)
  const { training, heldOut } =
    split === undefined
      ? packParts([text], [0], tokenizer, sequenceLength)
      : packSpeakers(text, split, tokenizer, sequenceLength)
  return { training: flattened(training, sequenceLength), heldOut: flattened(heldOut, sequenceLength) }
}

function flattened(sequences: readonly Example[], length: number): Int32Array<ArrayBuffer> {
  const flat = new Int32Array(sequences.length * length)
  for (const [i, { values }] of sequences.entries()) flat.set(values as Int32Array, i * length)
  return flat
}

const sequencesIn = (flat: Int32Array, length: number): readonly Example[] =>
  Array.from({ length: flat.length / length }, (_, i) => ({
    values: flat.subarray(i * length, (i + 1) * length),
    label: IGNORED_LABEL
  }))

/** The sequences of one peer of a play: trained on its own speakers, evaluated on everybody's held-out tenth. */
export function packSpeakers(play: string, split: SpeakerSplit, tokenizer: Tokenizer, length: number): PackedText {
  const { peer, peers } = split
  const texts = splitSpeakers(play, split.speakers).map((speaker) => speaker.text)
  if (peer !== undefined && (peer < 0 || peer >= Math.min(peers, texts.length)))
    throw new PeertuneError('data/bad-split', `there is no peer ${peer} among ${peers} with ${texts.length} speakers`, {
      facts: { peer, peers, speakers: texts.length },
      hint: 'every peer needs a speaker: lower the number of peers, or give a longer text'
    })
  const own = peer === undefined ? speakersOfPeer(texts.length, 0, 1) : speakersOfPeer(texts.length, peer, peers)
  return packParts(texts, own, tokenizer, length)
}

/** Of each text the first tenth of its sequences is held out; those of the texts named in `own` are trained on. */
function packParts(texts: readonly string[], own: readonly number[], tokenizer: Tokenizer, length: number): PackedText {
  const parts = texts.map((text) => {
    const sequences = packTokens(tokenizer.encode(text), tokenizer.bos, length)
    const held = Math.max(1, Math.floor(sequences.length / HELD_OUT_TENTH))
    return { training: sequences.slice(held), heldOut: sequences.slice(0, held) }
  })
  return { training: own.flatMap((i) => parts[i]!.training), heldOut: parts.flatMap((part) => part.heldOut) }
}

/**
 * Cuts `ids` into sequences of `length` tokens, each beginning with `bos` where there is one; what does not fill a
 * sequence is dropped.
 */
export function packTokens(ids: Int32Array, bos: number | undefined, length: number): Example[] {
  const lead = bos === undefined ? [] : [bos]
  const stride = checkLength(length) - lead.length
  return Array.from({ length: Math.floor(ids.length / stride) }, (_, i) => ({
    values: Int32Array.of(...lead, ...ids.subarray(i * stride, (i + 1) * stride)),
    label: IGNORED_LABEL
  }))
}

/** Throws `data/bad-sequence-length` for a length in which there is nothing to predict. */
export function checkLength(length: number): number {
  if (Number.isInteger(length) && length >= 2) return length
  throw new PeertuneError('data/bad-sequence-length', `a sequence of ${length} tokens has nothing to predict`, {
    facts: { sequenceLength: length, expected: 'a whole number from 2' }
  })
}

async function readText(path: string): Promise<string> {
  const { size } = await statFile(path)
  if (size > MAX_TEXT_BYTES)
    throw new PeertuneError('data/file-too-large', `${path} has ${size} bytes; a text may have ${MAX_TEXT_BYTES}`, {
      facts: { file: path, expected: MAX_TEXT_BYTES, got: size },
      hint: 'cut it, or write it as JSONL'
    })
  if (size === 0) throw emptyFile(path)
  return reading(path, readFile(path, 'utf8'))
}
