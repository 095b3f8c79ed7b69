/** What JSON can carry unchanged. NaN and the infinities are numbers to TypeScript but become null in JSON. */
export type JsonValue =
  | null
  | boolean
  | number
  | string
  | readonly JsonValue[]
  | { readonly [key: string]: JsonValue | undefined }
