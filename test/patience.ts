/**
 * How long a test waits for what must come, in milliseconds: for ever, as far as any machine can tell. Only what never comes
 * ends here, and it ends before the test itself does, so that the failure says what was missing.
 */
export const PATIENCE = { timeout: 240_000, interval: 20 }
