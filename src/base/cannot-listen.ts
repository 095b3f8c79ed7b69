import { PeertuneError } from './errors.js'
import { reasonOf, systemCode } from './system-error.js'

/** Where somebody was to listen, as the configuration says it. */
export interface ListenPlace {
  readonly host: string
  readonly port: number
  /** The fields that hold them. */
  readonly fields: { readonly host: string; readonly port: string }
  /** What the field holds where that is more than the host or the port, e.g. `/ip4/127.0.0.1/tcp/4001`. */
  readonly written?: string
  /** The flag that takes any free port. */
  readonly anyPort: string
}

/** Why nobody can listen there, as `config/port-in-use` or `config/cannot-listen`: field, address, port, what to do. */
export function cannotListen(place: ListenPlace, cause: unknown): PeertuneError {
  const { host, port, fields, anyPort } = place
  const inside = place.written === undefined ? '' : ` in ${place.written}`
  const facts = { host, port, ...(place.written !== undefined && { address: place.written }) }
  const refused = (message: string, hint: string) =>
    new PeertuneError('config/cannot-listen', message, { facts, hint, cause })
  switch (systemCode(cause)) {
    case 'EADDRINUSE':
      return new PeertuneError(
        'config/port-in-use',
        `${fields.port}: expected a free port, got ${port}${inside}, which is in use`,
        { facts, hint: `stop the program that has it, choose another one, or take any that is free: ${anyPort}`, cause }
      )
    case 'EADDRNOTAVAIL':
    case 'ENOTFOUND':
      return refused(
        `${fields.host}: expected an address of this machine, got ${host}${inside}`,
        '0.0.0.0 stands for all of its addresses'
      )
    case 'EACCES':
      return refused(
        `${fields.port}: expected a port that this user may open, got ${port}${inside}`,
        `choose one from 1024 on, or take any that is free: ${anyPort}`
      )
    default:
      return refused(
        `${fields.port}: nobody can listen at ${host}, port ${port}${inside} (${reasonOf(cause)})`,
        anyPort
      )
  }
}
