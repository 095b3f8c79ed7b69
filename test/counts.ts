/**
 * How much is drawn at random: `npm test` what its minutes allow, `npm run test:long` what finds the rare. One switch for
 * all, so that nothing is rare in one test and common in another.
 */
export const LONG = process.env.PEERTUNE_TEST_COUNTS === 'long'

/** Simulated networks by seed, of exchanges in pairs and of broadcasts, which take several times as long. */
export const SCENARIOS = LONG ? 2_000 : 300
export const BROADCAST_SCENARIOS = LONG ? 500 : 60

/** Frames over all decoders. */
export const FUZZED_FRAMES = LONG ? 200_000 : 20_000

/** Cases of a property: `count` in `npm test`. */
export const runs = (count: number): number => (LONG ? 10 * count : count)
