import { logitsOf } from '../../autodiff/loss.js'
import { createForward, type Forward, type ForwardProgram, type InputShapes, OUTPUT_ROWS } from '../../infer/forward.js'
import { canonicalise } from '../../onnx/canonical/canonicalise.js'
import { chooseDevice } from '../../onnx/runtime/device.js'
import type { Graph } from '../../onnx/graph/graph.js'
import { groupQueries } from '../../onnx/canonical/grouped-attention.js'
import { hoistRowSelections, selectOutputRows } from '../../onnx/canonical/select-rows.js'
import type { Device } from '../../train/trainer.js'
import { probeOnce } from '../model/probe-child.js'
import type { AdaptedModel } from '../model/program.js'

export interface ForwardSpec {
  readonly adapted: AdaptedModel
  readonly parameters: Float32Array
  readonly device: Device
  readonly threads: number
}

/** An adapted model ready to answer, on the device asked for where that works. */
export async function openForward({ adapted, parameters, device, threads }: ForwardSpec): Promise<Forward> {
  const { used } = await chooseDevice(device, { probe: probeOnce })
  return createForward({
    schema: adapted.method.schema,
    parameters,
    externalDir: adapted.externalDir,
    device: used,
    threads,
    build: (shapes, rows) => build(adapted, shapes, rows)
  })
}

/** As a training program's forward part is built (program.ts), without loss and gradients. */
async function build(
  { model, method }: AdaptedModel,
  shapes: InputShapes,
  rows: number | undefined
): Promise<ForwardProgram> {
  const canonical = await canonicalise(model, method.graphInputs(shapes))
  const whole = groupQueries(method.rewrite(canonical))
  const logits = logitsOf(whole)
  const graph: Graph =
    rows === undefined ? whole : selectOutputRows(whole, { output: logits, rows: OUTPUT_ROWS, count: rows })
  return { graph: hoistRowSelections(graph), logits }
}
