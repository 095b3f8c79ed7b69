import { describe, expect, it } from 'vitest'
import { chooseDevice } from '../../src/onnx/device.js'

const broken = async (device: string): Promise<void> => {
  throw new Error(`no ${device} driver`)
}
const works = async (): Promise<void> => undefined

describe('choosing a device', () => {
  it('uses what was asked for when it computes', async () => {
    expect(await chooseDevice('cuda', { probe: works })).toEqual({ used: 'cuda' })
    expect(await chooseDevice('auto', { probe: works, platform: 'win32' })).toEqual({ used: 'dml' })
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
    expect(await chooseDevice(elsewhere)).toMatchObject({ used: 'cpu', reason: expect.stringContaining(elsewhere) })
  })
})
