import { readFileSync } from 'node:fs'
import { parse } from 'yaml'

/** What the code does not say itself; kept by hand in advice.yaml. */
export interface Advice {
  /** By error code: what to do where the error has no hint. */
  readonly errors: Readonly<Record<string, string>>
  /** By the code of a verdict, a refusal or a failed attempt. */
  readonly peers: Readonly<Record<string, PeerAdvice>>
}

export interface PeerAdvice {
  readonly means: string
  readonly do: string
}

export const readAdvice = (path: string): Advice => parse(readFileSync(path, 'utf8')) as Advice
