/**
 * What npm runs before it installs the package into somebody's project. onnxruntime-node's own install script fetches CUDA
 * libraries from NuGet unless it is told not to, and ends in a bare network error where NuGet is out of reach. npm runs
 * every package's preinstall first, so the way out can be named here, in time. Plain JavaScript: nothing is built when a
 * clone is installed. npm 12 runs no such scripts, neither this one nor the one that it is about.
 */
import { existsSync, readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'

/** The first address that onnxruntime-node's script asks. */
const NUGET = 'https://api.nuget.org/v3/index.json'
/** How long a firewall that drops packets may keep the operator waiting. */
const PATIENCE_MS = 20_000
/** Whoever has set one of these has decided already, or goes through a proxy that this script does not know. */
const DECIDED = /^(onnxruntime_node_install|npm_config_onnxruntime_node_install|global_agent_https?_proxy)(_cuda)?$/i
const CUDA_LIBRARIES = ['cuda', 'shared', 'tensorrt'].map((name) => `libonnxruntime_providers_${name}.so`)

/** A clone is not below node_modules, and its lock file keeps npm from running install scripts. */
const isDependency = () => import.meta.url.includes('/node_modules/')
const hasDecided = () => Object.keys(process.env).some((name) => DECIDED.test(name)) || isScriptDenied()

/** `allowScripts` of the project that peertune is installed into. */
function isScriptDenied() {
  try {
    const project = JSON.parse(readFileSync(join(process.env.npm_config_local_prefix, 'package.json'), 'utf8'))
    return project.allowScripts['onnxruntime-node'] === false
  } catch {
    return false
  }
}

function hasCudaLibraries() {
  try {
    const root = dirname(createRequire(import.meta.url).resolve('onnxruntime-node/package.json'))
    return CUDA_LIBRARIES.every((file) => existsSync(join(root, 'bin/napi-v6/linux/x64', file)))
  } catch {
    return false
  }
}

/** Why NuGet cannot be reached, or nothing. */
async function nugetFailure() {
  try {
    const { ok, status } = await fetch(NUGET, { signal: AbortSignal.timeout(PATIENCE_MS) })
    return ok ? undefined : `it answers with status ${status}`
  } catch (error) {
    return error.cause?.message ?? error.message
  }
}

const downloads = `${process.platform}/${process.arch}` === 'linux/x64'
if (downloads && isDependency() && !hasDecided() && !hasCudaLibraries()) {
  const failure = await nugetFailure()
  if (failure !== undefined) {
    console.error(
      `onnxruntime-node would now fetch CUDA libraries from api.nuget.org, which is out of reach (${failure}).
They are for CUDA alone. To install peertune without them, say so to the same command:

  ONNXRUNTIME_NODE_INSTALL=skip npm install ...
`
    )
    process.exitCode = 1
  }
}
