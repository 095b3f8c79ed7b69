import '../../base/polyfill.js'
import { probeDevice } from '../../onnx/runtime/device-probe.js'
import type { ExecutionDevice } from '../../onnx/runtime/session.js'

/** Entry file of a device probe; see probe-child.ts for the parent's side. One line of JSON, then it leaves. */
console.log(JSON.stringify(await probeDevice(process.argv[2] as ExecutionDevice)))
process.exit(0)
