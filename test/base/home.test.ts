import { homedir } from 'node:os'
import { expect, it } from 'vitest'
import { homeFolder } from '../../src/base/home.js'

const nobody = (): string => {
  throw new Error('uv_os_homedir returned ENOENT')
}

it('is what HOME says, or else what the system has for the user', () => {
  expect(homeFolder({ HOME: '/home/größe x' }, nobody)).toBe('/home/größe x')
  expect(homeFolder({})).toBe(homedir())
  expect(homeFolder({ HOME: '' }, () => '/home/a')).toBe('/home/a')
})

it('says what to set for a user that the system does not know', () => {
  expect(() => homeFolder({}, nobody)).toThrow(
    expect.objectContaining({ code: 'base/no-home', hint: 'set HOME to a folder that can be written' })
  )
})
