import { describe, expect, it } from 'vitest'
import { hubOrigin, isInside, parseHubReference, referenceText } from '../../src/hub/reference.js'
import { hubCacheDir } from '../../src/hub/cache.js'

const SHA = 'a3f0'.repeat(10)

describe('a model of the hub', () => {
  it.each([
    ['org/name', { repo: 'org/name', revision: 'main' }],
    ['org/name@v1.2', { repo: 'org/name', revision: 'v1.2' }],
    ['org/name@refs/pr/3', { repo: 'org/name', revision: 'refs/pr/3' }],
    ['Org-1/na.me_2:onnx/model_q4.onnx', { repo: 'Org-1/na.me_2', revision: 'main', file: 'onnx/model_q4.onnx' }],
    [`org/name@${SHA}:model.onnx`, { repo: 'org/name', revision: SHA, file: 'model.onnx' }]
  ])('%s', (text, expected) => {
    const reference = parseHubReference(text)
    expect(reference).toEqual(expected)
    expect(referenceText(reference as NonNullable<typeof reference>)).toBe(
      text.includes('@') ? text : text.replace(/^([^:]+)/, '$1@main')
    )
  })

  it.each([
    'model.onnx',
    'models/model.onnx',
    './org/name',
    '/org/name',
    '~/name',
    'org/name/more',
    'org/',
    'org/name@',
    'org/name:',
    'org/name:../secret',
    'org/name:/etc/passwd',
    'org/name:a\\b',
    'org/name@../main',
    'org/na..me',
    'or--g/name',
    'C:\\models\\name',
    'https://huggingface.co/org/name'
  ])('is not meant by %s', (text) => expect(parseHubReference(text)).toBeUndefined())

  it('is recognised by the path of its file in a cache', () => {
    expect(hubOrigin(`/c/hub/models--org--name/snapshots/${SHA}/onnx/model.onnx`)).toEqual({
      repo: 'org/name',
      sha: SHA,
      file: 'onnx/model.onnx'
    })
    expect(hubOrigin(`/c/hub/datasets--org--name/snapshots/${SHA}/model.onnx`)).toBeUndefined()
    expect(hubOrigin('/home/alice/model.onnx')).toBeUndefined()
  })

  it('has paths that stay inside it', () => {
    for (const path of ['a', 'a/b.onnx', '...a']) expect(isInside(path)).toBe(true)
    for (const path of ['', '/a', 'a/', 'a//b', 'a/../b', './a', 'a\0']) expect(isInside(path)).toBe(false)
  })
})

/** https://huggingface.co/docs/huggingface_hub/package_reference/environment_variables */
it.each([
  [{ HOME: '/h' }, '/h/.cache/huggingface/hub'],
  [{ HOME: '/h', XDG_CACHE_HOME: '/x' }, '/x/huggingface/hub'],
  [{ HOME: '/h', XDG_CACHE_HOME: '/x', HF_HOME: '~/hf' }, '/h/hf/hub'],
  [{ HOME: '/h', HF_HOME: '/hf', HF_HUB_CACHE: '/c' }, '/c']
])('the cache is where Python has it: %j', (env, expected) => expect(hubCacheDir(env)).toBe(expected))
