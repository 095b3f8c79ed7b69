import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'

interface LockedPackage {
  readonly version?: string
  readonly resolved?: string
  readonly hasInstallScript?: boolean
  readonly optionalDependencies?: Readonly<Record<string, string>>
}

const read = (path: string) => JSON.parse(readFileSync(new URL(path, import.meta.url), 'utf8'))
const { packages } = read('../package-lock.json') as { packages: Record<string, LockedPackage> }
const manifest = read('../package.json') as Record<'dependencies' | 'devDependencies', Record<string, string>>

describe('package-lock.json', () => {
  it('has the binaries of every platform: npm ci refuses a lock file that was written where only one was to be had', () => {
    const missing = Object.entries(packages).flatMap(([path, { optionalDependencies = {} }]) =>
      Object.keys(optionalDependencies).filter(
        (name) =>
          packages[`node_modules/${name}`] === undefined && packages[`${path}/node_modules/${name}`] === undefined
      )
    )
    expect(missing).toEqual([])
  })

  it('names no registry, so that it installs from any', () => {
    expect(Object.values(packages).filter(({ resolved }) => resolved?.startsWith('http'))).toEqual([])
  })

  it('has npm run no install script: onnxruntime-node would download CUDA libraries, and npm 10 has no allowScripts', () => {
    const flagged = Object.entries(packages).filter(([path, { hasInstallScript }]) => path !== '' && hasInstallScript)
    expect(
      flagged.map(([path]) => path),
      'take "hasInstallScript" out of package-lock.json'
    ).toEqual([])
  })

  it('pins exact versions of everything we ask for', () => {
    const asked = Object.entries({ ...manifest.dependencies, ...manifest.devDependencies })
    expect(asked.filter(([, version]) => !/^\d+\.\d+\.\d+$/.test(version))).toEqual([])
    for (const [name, version] of asked) expect(packages[`node_modules/${name}`]?.version).toBe(version)
  })
})
