/** What one model may take of this machine, checked before anything is downloaded. */
export const HUB_LIMITS = {
  /** Bytes of a model and all that belongs to it: larger ones do not train on one machine. */
  modelBytes: 64 * 2 ** 30,
  /** Bytes of a tokenizer or a configuration; the largest tokenizers in use have about 35 MB. */
  smallFileBytes: 128 * 2 ** 20,
  /** Files a repository may list; those with models have tens. */
  files: 10_000,
  /** Files that one model's weights may be spread over. */
  weightFiles: 1000,
  /** Times a broken download goes on where it broke; it starts anew after each piece that came through. */
  resumes: 5,
  /** Milliseconds for an answer that is no file. */
  answerMs: 30_000
} as const

/** Bytes of the disk that a download leaves free. */
export const DISK_RESERVE_BYTES = 512 * 2 ** 20
