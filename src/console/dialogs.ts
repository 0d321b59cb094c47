import { el, newId } from './dom.ts'

const open = new Set<() => void>()

/** The browser asks before the page goes. */
const stay = (event: Event) => event.preventDefault()

/**
 * A modal dialog. Closing it, however that happens, takes it and whatever it showed out of the document, and gives the focus back to what
 * had it before. With `kept`, Escape does not close it but calls that, and the browser asks before the page is reloaded or left.
 */
export const openDialog = (
  title: string, content: (close: () => void) => Node[],
  { onclosed, class: name = '', kept }: { onclosed?: () => void, class?: string, kept?: () => void } = {}
): void => {
  const heading = el('h2', { id: newId('dialog') }, title)
  const dialog = el('dialog', { 'aria-labelledby': heading.id, class: name }, heading)
  const gone = () => {
    if (!open.delete(close)) return
    window.removeEventListener('beforeunload', stay)
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
  if (kept) {
    // Chromium closes at a second Escape in a row whatever `cancel` says, so the key itself is taken.
    dialog.addEventListener('keydown', event => {
      if (event.key !== 'Escape') return
      event.preventDefault()
      kept()
    })
    dialog.addEventListener('cancel', event => {
      event.preventDefault()
      kept()
    })
    window.addEventListener('beforeunload', stay)
  }
  open.add(close)
  document.body.append(dialog)
  dialog.showModal()
}

/** A dialog belongs to its page: leaving the page closes it. */
export const closeDialogs = (): void => {
  for (const close of [...open]) close()
}
