import type { Rng } from '../../base/rng.js'
import type { Head, Update } from '../../codec/wire/update.js'
import { bytesBehind, decodeSyncHeader, encodeSyncHeader } from '../../codec/wire/sync.js'
import { decodeUpdateFrame, encodeUpdateFrame } from '../../codec/wire/update-frame.js'
import {
  createSyncConversation,
  MAX_SYNC_MESSAGES,
  published,
  type SyncMessage,
  type SyncConversation
} from '../../consensus/broadcast/conversation.js'
import { createAdoption } from '../../consensus/broadcast/adoption.js'
import type { BroadcastSnapshot } from '../../consensus/broadcast/snapshot.js'
import type { BroadcastConfig } from '../../consensus/broadcast/types.js'
import type { Broadcaster, OpenEffect } from '../../consensus/broadcast/broadcaster.js'
import type { LinkId } from '../../consensus/exchange/types.js'
import type { PeerId } from '../../consensus/peer-id.js'
import type { BroadcastTamper } from '../attack/broadcast-attackers.js'
import { simVerify } from '../world/broadcast-signature.js'
import type { SimBroadcastLog } from './broadcast-log.js'
import { indexOf, MAX_LINKS, nameOf } from './exchanger.js'
import type { Frame, NetworkEnd, PeerIndex } from '../world/network.js'
import type { BroadcastWorld, World } from './peer-state.js'

export interface TalkParts {
  readonly world: World & { readonly broadcast: BroadcastWorld }
  readonly peer: PeerIndex
  readonly config: BroadcastConfig
  readonly broadcaster: Broadcaster
  readonly log: SimBroadcastLog
  readonly rng: Rng
  /** Absent: honest. */
  readonly tamper: BroadcastTamper | undefined
}

/** What one peer says and hears in one life: updates told to all, conversations in which two tell each other the rest. */
export interface Talk {
  readonly end: NetworkEnd
  /** Does what the machine asks for. */
  perform(effects: readonly OpenEffect[]): void
  /** Begins a conversation with some neighbour. */
  synchronise(): void
  /** What others have said they had, and who of them is connected now. */
  others(): { readonly said: ReadonlyMap<PeerId, readonly Head[]>; readonly connected: readonly PeerId[] }
  stop(): void
}

interface Conversation {
  readonly partner: PeerIndex
  readonly machine: SyncConversation
  /** Where we have opened it. */
  readonly asked: Asked | undefined
  heardMs: number
  messages: number
  /** Given to us, to be confirmed by others. */
  snapshot: BroadcastSnapshot | undefined
  /** The hash at the heads that were to be confirmed; null: the partner cannot tell. */
  confirmed: string | null | undefined
}

/** Why we open a conversation: to tell each other what is lacking, or also for the hash at some heads. */
interface Asked {
  readonly confirm?: readonly Head[]
  /** Called once, when it is over or has come to nothing. */
  readonly done?: (confirmed: string | null | undefined) => void
}

interface Inner {
  readonly parts: TalkParts
  readonly links: Map<LinkId, Conversation>
  readonly heads: Map<PeerId, readonly Head[]>
  stopped: boolean
}

export function createTalk(parts: TalkParts): Talk {
  const inner: Inner = { parts, links: new Map(), heads: new Map(), stopped: false }
  const { world, peer, tamper, rng } = parts
  return {
    end: {
      opened(link, from) {
        if (inner.links.size >= MAX_LINKS || tamper?.answers === false) return world.network.close(link, peer)
        converse(inner, link, { partner: from, asked: undefined })
      },
      received: (link, frame) => received(inner, link, frame),
      ended: (link) => end(inner, link),
      announced: (from, bytes) => announced(inner, from, bytes)
    },
    perform: (effects) => perform(inner, effects),
    synchronise() {
      const neighbours = world.neighbours(peer)
      if (neighbours.length > 0 && tamper?.answers !== false) open(inner, neighbours[rng.integer(neighbours.length)]!)
    },
    others: () => ({ said: inner.heads, connected: members(inner).map(nameOf) }),
    stop() {
      inner.stopped = true
    }
  }
}

const members = ({ parts: { world, peer } }: Inner): readonly PeerIndex[] =>
  world.neighbours(peer).filter((neighbour) => world.network.connected(peer, neighbour))

function open(inner: Inner, to: PeerIndex, asked: Asked = {}): void {
  const { world, peer } = inner.parts
  const busy = asked.confirm === undefined && [...inner.links.values()].some(({ partner }) => partner === to)
  if (busy || inner.links.size >= MAX_LINKS) return asked.done?.(undefined)
  world.network.open({ from: peer, to, protocol: 'mixing' }, (link) => {
    if (inner.stopped) return
    if (link === undefined) return asked.done?.(undefined)
    say(inner, link, converse(inner, link, { partner: to, asked }).begin())
  })
}

function converse(
  inner: Inner,
  link: LinkId,
  { partner, asked }: Pick<Conversation, 'partner' | 'asked'>
): SyncConversation {
  const { config, broadcaster, world } = inner.parts
  const machine = createSyncConversation({
    config,
    broadcaster,
    verify: simVerify,
    peer: nameOf(partner),
    ...(asked?.confirm && { confirm: asked.confirm })
  })
  const begun = { heardMs: world.clock.now(), messages: 0, snapshot: undefined, confirmed: undefined }
  inner.links.set(link, { partner, machine, asked, ...begun })
  world.clock.after(world.scenario.network.frameTimeoutMs, () => watch(inner, link))
  return machine
}

/** Gives up a link on which nothing has been heard for too long. */
function watch(inner: Inner, id: LinkId): void {
  const { clock, scenario } = inner.parts.world
  const conversation = inner.links.get(id)
  if (conversation === undefined || inner.stopped) return
  const leftMs = conversation.heardMs + scenario.network.frameTimeoutMs - clock.now()
  if (leftMs > 0) return clock.after(leftMs, () => watch(inner, id))
  end(inner, id)
}

function end(inner: Inner, id: LinkId): void {
  const { world, peer } = inner.parts
  const conversation = inner.links.get(id)
  if (conversation === undefined) return
  inner.links.delete(id)
  if (inner.stopped) return
  world.network.close(id, peer)
  const { asked, snapshot, confirmed, partner } = conversation
  // As in the daemon: whoever has called goes by what it was given.
  if (asked !== undefined && snapshot !== undefined) adopt(inner, partner, snapshot)
  asked?.done?.(confirmed)
}

/** Adopts a snapshot once enough others have named its hash. */
function adopt(inner: Inner, giver: PeerIndex, snapshot: BroadcastSnapshot): void {
  const { broadcaster, log, world, peer } = inner.parts
  const adoption = createAdoption(nameOf(giver), snapshot, members(inner).map(nameOf))
  const ask = (): void => {
    const other = adoption.next()
    if (other === undefined) return conclude()
    const done = (confirmed: string | null | undefined): void => {
      adoption.heard(confirmed)
      ask()
    }
    open(inner, indexOf(other), { confirm: snapshot.heads, done })
  }
  const conclude = (): void => {
    if (!adoption.believed()) return world.observer.count('snapshot not confirmed')
    if (!broadcaster.adopt(snapshot)) return world.observer.count('snapshot not adopted')
    world.observer.note(peer, `adopts the snapshot of ${nameOf(giver)}`)
    world.observer.count('snapshot adopted')
    log.rebase(broadcaster)
  }
  ask()
}

function received(inner: Inner, id: LinkId, frame: Frame): void {
  const { observer, clock } = inner.parts.world
  const conversation = inner.links.get(id)
  if (conversation === undefined || inner.stopped) return
  conversation.heardMs = clock.now()
  const header = decodeSyncHeader(frame.bytes)
  const size = frame.payload?.length ?? 0
  const fits = header.ok && bytesBehind(header.value) === size && conversation.machine.fits(header.value) === undefined
  if (!header.ok || !fits || conversation.messages++ >= MAX_SYNC_MESSAGES) {
    observer.count('verdict unreadable')
    return end(inner, id)
  }
  const { payload } = frame
  const step = conversation.machine.take(
    payload === undefined ? { header: header.value } : { header: header.value, payload }
  )
  perform(inner, step.effects)
  if (step.heads !== undefined) inner.heads.set(nameOf(conversation.partner), step.heads)
  conversation.snapshot ??= step.snapshot
  conversation.confirmed ??= step.confirmed
  if (step.verdict !== undefined && step.verdict.verdict !== 'accept') {
    observer.count(`verdict ${step.verdict.code}`)
    return end(inner, id)
  }
  say(inner, id, step.replies)
  if (step.over) whenSafe(inner, () => end(inner, id))
}

function say(inner: Inner, id: LinkId, messages: readonly SyncMessage[]): void {
  const { world, peer } = inner.parts
  whenSafe(inner, () => {
    for (const { header, payload } of messages) {
      const bytes = encodeSyncHeader(header)
      world.network.send(id, peer, payload === undefined ? { bytes } : { bytes, payload })
    }
  })
}

function announced(inner: Inner, from: PeerIndex, bytes: Uint8Array): void {
  const { config, broadcaster, world } = inner.parts
  if (inner.stopped) return
  const frame = decodeUpdateFrame(bytes)
  if (!frame.ok) return world.observer.count('verdict unreadable')
  if (frame.value.type === 'notice') return open(inner, from)
  const { update } = frame.value
  // Pubsub names its signer, who is the author.
  if (update.author !== nameOf(from)) return world.observer.count('verdict broadcast/not-the-author')
  const verdict = published(config, broadcaster.state(), update, simVerify)
  if (verdict.verdict !== 'accept') return world.observer.count(`verdict ${verdict.code}`)
  perform(inner, broadcaster.dispatch({ type: 'update', update, from: update.author }))
}

function perform(inner: Inner, effects: readonly OpenEffect[]): void {
  const { world, peer, log, broadcaster } = inner.parts
  for (const effect of effects) {
    if (effect.type === 'record') {
      world.broadcast.ledger.recorded(effect.entry)
      log.append(effect.entry)
    } else if (effect.type === 'publish') whenSafe(inner, () => publish(inner, effect.update))
    else if (effect.type === 'missing') open(inner, indexOf(effect.from))
    else if (effect.type === 'equivocation') world.observer.count('equivocation')
    else if (effect.verdict.verdict !== 'accept') world.observer.count(`verdict ${effect.verdict.code}`)
  }
  world.broadcast.ledger.check(nameOf(peer), broadcaster)
}

function publish(inner: Inner, update: Update): void {
  const { world, peer, tamper } = inner.parts
  if (tamper === undefined) world.broadcast.ledger.left(update)
  world.observer.note(peer, `tells ${update.sequence} ${update.hash}`)
  world.observer.count('published')
  for (const neighbour of world.neighbours(peer)) {
    const told = tamper === undefined ? update : tamper.told(update, neighbour)
    if (told === undefined) continue
    world.network.announce(peer, neighbour, told instanceof Uint8Array ? told : encodeUpdateFrame(told))
  }
}

/** What was recorded before must be safe before anything that tells of it leaves. */
function whenSafe(inner: Inner, act: () => void): void {
  const { log, world } = inner.parts
  const waitMs = log.safeAtMs() - world.clock.now()
  if (!(waitMs > 0)) return act()
  world.clock.after(waitMs, () => {
    if (!inner.stopped) act()
  })
}
