import { isPeertuneError, PeertuneError } from '../../base/errors.js'

/** Errors that a model is to blame for. */
const ABOUT_MODELS = ['onnx/', 'autodiff/', 'config/labels-do-not-fit']

/** Runs `action`; what is wrong with the model then says which file it is. */
export async function namingModel<T>(modelPath: string, action: () => Promise<T>): Promise<T> {
  try {
    return await action()
  } catch (error) {
    if (!isPeertuneError(error) || error.message.includes(modelPath)) throw error
    if (!ABOUT_MODELS.some((prefix) => error.code.startsWith(prefix))) throw error
    const { code, message, facts, hint } = error
    throw new PeertuneError(code, `${modelPath}: ${message}`, {
      facts: { ...facts, file: modelPath },
      ...(hint !== undefined && { hint }),
      cause: error
    })
  }
}
