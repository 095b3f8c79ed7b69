import type { Verdict } from '../../base/verdict.js'
import { ACCEPT, ignore, reject } from '../../base/verdict.js'
import type { Announcement } from '../../codec/wire/messages.js'
import { isSaneWeight } from '../weight.js'

/** Milliseconds between two announcements of one peer; honest peers announce every few seconds and at phase changes. */
export const MIN_ANNOUNCEMENT_INTERVAL_MS = 250

export type AnnouncementVerdictCode =
  | 'announcement/other-federation'
  | 'announcement/absurd-samples'
  | 'announcement/stale'
  | 'announcement/too-frequent'
  | 'announcement/table-full'

/**
 * The sequence number to announce with. Rises within a life, and past the last life's numbers after a restart without
 * anything being stored, because the clock has moved on.
 */
export const nextSequence = (previous: number, nowMs: number): number => Math.max(previous + 1, Math.floor(nowMs))

/** What is known from the sender's last announcement. */
export interface LastHeard {
  readonly sequence: number
  readonly heardAtMs: number
}

/**
 * May this announcement enter the table and be passed on? Duplicates and bursts happen to honest peers in a mesh, so they
 * are ignored; another federation's hash on our topic and impossible numbers are the sender's doing.
 */
export function judgeAnnouncement(
  announcement: Announcement,
  last: LastHeard | undefined,
  { federation, nowMs }: { readonly federation: string; readonly nowMs: number }
): Verdict<AnnouncementVerdictCode> {
  if (announcement.federation !== federation) return reject('announcement/other-federation', announcement.federation)
  if (!isSaneWeight(announcement.samples)) return reject('announcement/absurd-samples', String(announcement.samples))
  if (last === undefined) return ACCEPT
  if (announcement.sequence <= last.sequence)
    return ignore('announcement/stale', `${announcement.sequence} after ${last.sequence}`)
  if (nowMs - last.heardAtMs < MIN_ANNOUNCEMENT_INTERVAL_MS)
    return ignore('announcement/too-frequent', `${nowMs - last.heardAtMs} ms after the last one`)
  return ACCEPT
}
