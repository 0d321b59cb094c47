// @ts-check
import { el, newId } from './dom.js'

/** @type {Set<() => void>} */
const open = new Set()

/**
 * A modal dialog. Closing it, however that happens, takes it and whatever it showed out of the document, and gives the focus back to what
 * had it before.
 *
 * @param {string} title
 * @param {(close: () => void) => Node[]} content
 * @param {{ onclosed?: () => void, class?: string }} [options]
 */
export const openDialog = (title, content, { onclosed, class: name = '' } = {}) => {
  const heading = el('h2', { id: newId('dialog') }, title)
  const dialog = el('dialog', { 'aria-labelledby': heading.id, class: name }, heading)
  const gone = () => {
    if (!open.delete(close)) return
    dialog.replaceChildren()
    dialog.remove()
    onclosed?.()
  }
  const close = () => {
    dialog.close()
    // The event comes in a task of its own, for which a page that is being left has no time.
    gone()
  }
  dialog.append(...content(close))
  dialog.addEventListener('close', gone)
  open.add(close)
  document.body.append(dialog)
  dialog.showModal()
}

/** A dialog belongs to its page: leaving the page closes it. */
export const closeDialogs = () => {
  for (const close of [...open]) close()
}
