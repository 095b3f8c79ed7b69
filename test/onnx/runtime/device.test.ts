import { describe, expect, it } from 'vitest'
import { chooseDevice, type Probe } from '../../../src/onnx/runtime/device.js'
import { probeDevice } from '../../../src/onnx/runtime/device-probe.js'

const broken: Probe = (device) => Promise.resolve({ kind: 'refused', reason: `no ${device} driver` })
const works: Probe = () => Promise.resolve({ kind: 'works', nodeShare: 0.75, largestDifference: 0 })

describe('choosing a device', () => {
  it('uses what was asked for when it computes', async () => {
    expect(await chooseDevice('webgpu', { probe: works })).toEqual({ used: 'webgpu', nodeShare: 0.75 })
    const second: Probe = (device) => (device === 'cuda' ? broken(device) : works(device))
    expect(await chooseDevice('auto', { probe: second, platform: 'win32' })).toMatchObject({ used: 'dml' })
  })

  it('falls back to the CPU and says why', async () => {
    expect(await chooseDevice('webgpu', { probe: broken })).toEqual({ used: 'cpu', reason: 'webgpu: no webgpu driver' })
  })

  it('has no reason to give where the CPU was meant, or is all that auto knows', async () => {
    expect(await chooseDevice('cpu', { probe: broken })).toEqual({ used: 'cpu' })
    expect(await chooseDevice('auto', { probe: broken, platform: 'darwin' })).toEqual({ used: 'cpu' })
  })

  it('really falls back here for a device this machine cannot have', async () => {
    const elsewhere = process.platform === 'win32' ? 'coreml' : 'dml'
    const choice = await chooseDevice(elsewhere, { probe: probeDevice })
    expect(choice).toMatchObject({ used: 'cpu', reason: expect.stringContaining(elsewhere) })
  })
})

describe('a probe', () => {
  it('finds that the CPU agrees with itself and runs everything', async () => {
    expect(await probeDevice('cpu')).toEqual({ kind: 'works', nodeShare: 1, largestDifference: 0 })
  })
})
