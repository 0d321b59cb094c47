// @ts-check
import { el, newId } from './dom.js'

/** @type {Set<() => void>} */
const open = new Set()

/** @param {() => void} close */
const forget = close => { open.delete(close) }

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
  const close = () => dialog.close()
  dialog.append(...content(close))
  dialog.addEventListener('close', () => {
    forget(close)
    dialog.replaceChildren()
    dialog.remove()
    onclosed?.()
  }, { once: true })
  open.add(close)
  document.body.append(dialog)
  dialog.showModal()
}

/** A dialog belongs to its page: leaving the page closes it. */
export const closeDialogs = () => {
  for (const close of [...open]) close()
}
