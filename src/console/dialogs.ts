import { el, newId } from './dom.ts'

const open = new Set<() => void>()

/**
 * A modal dialog. Closing it, however that happens, takes it and whatever it showed out of the document, and gives the focus back to what
 * had it before.
 */
export const openDialog = (
  title: string, content: (close: () => void) => Node[], { onclosed, class: name = '' }: { onclosed?: () => void, class?: string } = {}
): void => {
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
export const closeDialogs = (): void => {
  for (const close of [...open]) close()
}
