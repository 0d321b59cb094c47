import type { Grant } from '../client/schema.ts'
import { changeGrant, completeGrant, endWorker, rotateGrant } from './api.ts'
import { openDialog } from './dialogs.ts'
import { el } from './dom.ts'
import { field, showAtFields, type Fields } from './fields.ts'
import { findingsOf, problemBox } from './problem-view.ts'
import { vpcFields, wordsOf } from './source-fields.ts'
import { showCredentials } from './secret.ts'
import { fromField, toField, utc } from './times.ts'

/** Says what was done, and shows its own errors. */
export type Done = (outcome: string) => Promise<void>

export const askComplete = (grant: Grant, done: Done): void => ask(`Complete ${grant.job.id}?`, {
  what: [el('p', {}, grant.workers === null
    ? 'Its key is deleted at once, and then its user. A job that still runs loses its access. This cannot be undone.'
    : 'The keys of all its workers are deleted at once, and then their users. Workers that still run lose their access. ' +
      'This cannot be undone.')],
  verb: 'Complete',
  danger: true,
  act: async () => {
    const ended = await completeGrant(grant.id)
    return () => done(ended.state === 'revoking' ? 'Its key is being deleted.' : 'Completed: its key is deleted.')
  }
})

type Worker = NonNullable<Grant['worker']>
export const askEndWorker = (worker: Worker, attempt: Grant['attempt'], done: Done): void => ask(`End worker ${worker.name}?`, {
  what: [el('p', {}, 'Its key is deleted at once, and then its user. The job and its other workers go on.')],
  verb: 'End worker',
  danger: true,
  act: async () => {
    const { state } = await endWorker(worker, attempt)
    return () => done(state === 'revoking' ? 'Its key is being deleted.' : `Worker ${worker.name} has ended.`)
  }
})

export const askRotate = (grant: Grant, done: Done): void => {
  const overlap = el('input', { type: 'number', min: 0, max: 86_400, step: 1, value: 900, class: 'num' })
  ask(`Rotate the key of ${grant.job.id}`, {
    what: grant.attach === 'session'
      ? [el('p', {}, 'The job gets the next session, shown once. The one before works until its own end.')]
      : [
          el('p', {}, 'The job gets a fresh key, shown once. The old one works on for the overlap, until the job has the new one.'),
          field('Overlap, seconds', overlap, '0 deletes the old key at once: a job that still uses it loses its access.')
        ],
    verb: 'Rotate',
    fields: new Map([['/overlapSeconds', overlap]]),
    act: async () => {
      const delivery = await rotateGrant(grant.id, { overlapSeconds: overlap.valueAsNumber })
      return () => showCredentials(delivery, () => { void done('Rotated.') })
    }
  })
}

export const askExtend = (grant: Grant, done: Done): void => {
  const ends = Date.parse(grant.window.notAfter)
  const end = el('input', { type: 'datetime-local', step: 60, value: toField(ends + 3_600_000), class: 'num' })
  const later = (hours: number) => el('button', {
    type: 'button', onclick: () => { end.value = toField(ends + hours * 3_600_000) }
  }, `+${hours} h`)
  ask(`Extend ${grant.job.id}`, {
    what: [
      el('p', {}, 'It ends at ', el('span', { class: 'num' }, `${utc(ends)} UTC`),
        `. ${grant.attach === 'session' ? 'The next session has the change' : 'The key stays'}; an earlier end shortens the window.`),
      field('New end, UTC', end),
      el('div', { class: 'buttons', role: 'group', 'aria-label': 'Later than the present end by' }, later(1), later(3), later(12))
    ],
    verb: 'Extend',
    fields: new Map([['/window/notAfter', end], ['/window', end]]),
    act: async () => {
      const changed = await changeGrant(grant.id, { window: { notAfter: fromField(end.value) } })
      return () => done(`It now ends at ${utc(changed.window.notAfter)} UTC. ${changed.notice ?? ''}`.trim())
    }
  })
}

/** What is in the dialog becomes the whole source. */
export const askSource = ({ id, job, source, attach }: Grant, done: Done): void => {
  const addresses = el('input', {
    type: 'text', autocomplete: 'off', spellcheck: 'false', class: 'mono', value: (source.sourceIps ?? []).join(', ')
  })
  const vpc = vpcFields()
  vpc.fill(source.vpc)
  const fields: Fields = new Map([['/sourceIps', addresses], ['', addresses]])
  vpc.read((pointer, control) => { fields.set(pointer, control) })
  ask(`Change the source of ${job.id}`, {
    what: [
      el('p', {}, attach === 'session' ? 'The next session has the change.' : 'The key stays. From the source before, it works no more.'),
      field('Addresses or CIDRs', addresses, 'As the storage sees the job; several with spaces between.'),
      vpc.node
    ],
    verb: 'Change',
    fields,
    act: async () => {
      const [sourceIps, inVpc] = [wordsOf(addresses), vpc.read(() => {})]
      const { notice } = await changeGrant(id, {
        ...((sourceIps.length > 0 || inVpc === undefined) && { sourceIps }), ...(inVpc !== undefined && { vpc: inVpc })
      })
      return () => done(`Its source has changed. ${notice ?? ''}`.trim())
    }
  })
}

interface Question {
  what: Node[]
  verb: string
  danger?: boolean
  fields?: Fields
  /** Gives what follows once the dialog is closed. */
  act: () => Promise<() => unknown>
}

/** Asks before it acts; a refusal is said in the dialog, at its field. */
const ask = (title: string, { what, verb, danger = false, fields = new Map(), act }: Question) => openDialog(title, close => {
  const said = el('div')
  const button = el('button', { type: 'submit', class: danger ? 'danger' : 'primary' }, verb)
  const submit = async (event: Event) => {
    event.preventDefault()
    button.disabled = true
    try {
      const follow = await act()
      close()
      follow()
    } catch (error) {
      said.replaceChildren(problemBox(error))
      showAtFields(fields, findingsOf(error))
      button.disabled = false
      const [first] = fields.values()
      ;(first ?? button).focus()
    }
  }
  return [el('form', { novalidate: true, onsubmit: submit }, ...what, said,
    el('div', { class: 'buttons end' }, el('button', { type: 'button', onclick: close }, 'Cancel'), button))]
})
