import { transportSuite } from './transport-suite.js'
import { libp2pWorld, memoryWorld } from './worlds.js'

transportSuite('memory', memoryWorld)
transportSuite('libp2p', libp2pWorld)
