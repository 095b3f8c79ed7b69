import '../src/base/polyfill.js'
import fc from 'fast-check'
import { runs } from './counts.js'

/** Cases of a property that names no count: fast-check's own default. */
const CASES = 100

/** Property tests draw the same cases everywhere: a failure here is a failure there, and none comes and goes. */
fc.configureGlobal({ seed: 20_26_11_23, numRuns: runs(CASES) })
