import type { Grant } from '../client/schema.ts'
import { el, svg } from './dom.ts'

export const states = ['pending', 'active', 'revoking', 'revoked', 'expired', 'failed'] as const satisfies Grant['state'][]

/** What a person is told: `active` says that a grant is issued, not that its window is open; `revoked` not that its job came to its end. */
export type Shown = Grant['state'] | 'scheduled' | 'completed'

export const shownState = ({ state, endReason, window, issueAt }: Grant, now: number): Shown => {
  if (state === 'revoked' && endReason === 'completed') return 'completed'
  const waits = now < Math.max(Date.parse(window.notBefore), Date.parse(issueAt ?? window.notBefore))
  return waits && (state === 'active' || (state === 'pending' && issueAt !== null)) ? 'scheduled' : state
}

/** A shape and a word beside the colour: none of the three is needed to tell the states apart. */
const shapes: Record<Shown, string> = {
  scheduled: 'M6 1.5a4.5 4.5 0 1 1 0 9a4.5 4.5 0 1 1 0-9zM6 3.5v2.5l2 1',
  completed: 'M2 6.5l2.5 2.5l5.5-6',
  pending: 'M6 1.5a4.5 4.5 0 1 1 0 9a4.5 4.5 0 1 1 0-9z',
  active: 'M6 1a5 5 0 1 1 0 10a5 5 0 1 1 0-10z',
  revoking: 'M6 1a5 5 0 0 1 0 10z',
  revoked: 'M2 2h8v8h-8z',
  expired: 'M6 1l5 5l-5 5l-5-5z',
  failed: 'M2 2l8 8M10 2l-8 8'
}

const meanings: Record<Shown, string> = {
  scheduled: 'Its window has not opened yet.',
  completed: 'Its job came to its end; its key is deleted.',
  pending: 'Being issued.',
  active: 'Issued: its key works inside its window.',
  revoking: 'Its key is being deleted.',
  revoked: 'Its access was taken away; its key is deleted.',
  expired: 'Its window is over; its key is deleted.',
  failed: 'It was never issued, or was taken back; nothing is left.'
}

export const stateBadge = (state: Shown): HTMLElement =>
  el('span', { class: `state state-${state}`, title: meanings[state] ?? '' },
    svg('svg', { viewBox: '0 0 12 12', width: 10, height: 10, 'aria-hidden': 'true', focusable: 'false' },
      svg('path', { d: shapes[state] ?? '' })),
    state)

export const isOutstanding = ({ state }: Grant): boolean => state === 'pending' || state === 'active' || state === 'revoking'
