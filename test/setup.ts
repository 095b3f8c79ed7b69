import '../src/base/polyfill.js'
import fc from 'fast-check'

/** Property tests draw the same cases everywhere: a failure here is a failure there, and none comes and goes. */
fc.configureGlobal({ seed: 20_26_11_23 })
