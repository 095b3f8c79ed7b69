/**
 * What is decided about something a peer sent. A bad peer gets a verdict, never an exception.
 * `accept`: use it. `ignore`: drop it, nobody is to blame (a duplicate, bad timing). `reject`: the sender broke a rule.
 */
export type Verdict<Code extends string = string> =
  | { readonly verdict: 'accept' }
  | { readonly verdict: 'ignore'; readonly code: Code; readonly detail?: string }
  | { readonly verdict: 'reject'; readonly code: Code; readonly detail?: string }

export const ACCEPT: Verdict<never> = Object.freeze({ verdict: 'accept' })

export const ignore = <Code extends string>(code: Code, detail?: string): Verdict<Code> =>
  detail === undefined ? { verdict: 'ignore', code } : { verdict: 'ignore', code, detail }

export const reject = <Code extends string>(code: Code, detail?: string): Verdict<Code> =>
  detail === undefined ? { verdict: 'reject', code } : { verdict: 'reject', code, detail }

/** A decoded value, or the verdict on the bytes it came from. */
export type Decoded<T, Code extends string = string> =
  | { readonly ok: true; readonly value: T }
  | { readonly ok: false; readonly verdict: Verdict<Code> }

export const decoded = <T>(value: T): Decoded<T, never> => ({ ok: true, value })
export const refused = <Code extends string>(verdict: Verdict<Code>): Decoded<never, Code> => ({ ok: false, verdict })
