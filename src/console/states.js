// @ts-check
import { el, svg } from './dom.js'

/** @typedef {import('../client/schema.ts').Grant} Grant */

export const states = /** @type {const} */ (['pending', 'active', 'revoking', 'revoked', 'expired', 'failed'])

/** A shape and a word beside the colour: none of the three is needed to tell the states apart. @type {Record<Grant['state'], string>} */
const shapes = {
  pending: 'M6 1.5a4.5 4.5 0 1 1 0 9a4.5 4.5 0 1 1 0-9z',
  active: 'M6 1a5 5 0 1 1 0 10a5 5 0 1 1 0-10z',
  revoking: 'M6 1a5 5 0 0 1 0 10z',
  revoked: 'M2 2h8v8h-8z',
  expired: 'M6 1l5 5l-5 5l-5-5z',
  failed: 'M2 2l8 8M10 2l-8 8'
}

const meanings = {
  pending: 'Being issued, or scheduled.',
  active: 'Issued: its key works inside its window.',
  revoking: 'Its key is being deleted.',
  revoked: 'Completed or revoked: its key is deleted.',
  expired: 'Its window is over; its key is deleted.',
  failed: 'It was never issued, or was taken back; nothing is left.'
}

/** @param {Grant['state']} state */
export const stateBadge = state => el('span', { class: `state state-${state}`, title: meanings[state] ?? '' },
  svg('svg', { viewBox: '0 0 12 12', width: 10, height: 10, 'aria-hidden': 'true', focusable: 'false' },
    svg('path', { d: shapes[state] ?? '' })),
  state)

/** @param {Grant} grant */
export const isOutstanding = ({ state }) => state === 'pending' || state === 'active' || state === 'revoking'
