import { isSignedIn, signOut, whenSignedOut } from './api.ts'
import { closeDialogs } from './dialogs.ts'
import { el } from './dom.ts'
import { grantPage } from './grant.ts'
import { grantsPage } from './grants.ts'
import { issuePage } from './issue.ts'
import type { Page, Visit } from './page.ts'
import { signInPage } from './sign-in.ts'

const pages: [RegExp, (visit: Visit) => Page][] = [
  [/^\/grants$/, grantsPage],
  [/^\/grants\/([0-9a-z]{26})$/, grantPage],
  [/^\/issue$/, issuePage]
]

/** What index.html has. */
const its = (selector: string): HTMLElement => {
  const element = document.querySelector<HTMLElement>(selector)
  if (element === null) throw new Error(`The page has no ${selector}`)
  return element
}
const [main, nav, out] = [its('#main'), its('nav'), its('#sign-out')]

let leaving = new AbortController()

/** @param refusal why the token is asked for again */
const show = (refusal?: unknown): void => {
  leaving.abort()
  leaving = new AbortController()
  closeDialogs()
  const signedIn = isSignedIn()
  nav.hidden = !signedIn
  out.hidden = !signedIn
  const [path = '', query = ''] = window.location.hash.slice(1).split('?')
  for (const link of nav.querySelectorAll('a')) {
    if (link.hash === `#${path}`) link.setAttribute('aria-current', 'page')
    else link.removeAttribute('aria-current')
  }
  const page = signedIn ? pageAt(path, new URLSearchParams(query)) : signInPage(refusal, show)
  document.title = `${page.title} · job-access`
  main.replaceChildren(...page.content)
  // Where the page changed is said by moving there: the first heading, unless the page has a better place.
  const heading = main.querySelector('h1')
  heading?.setAttribute('tabindex', '-1')
  heading?.focus({ preventScroll: true })
  window.scrollTo(0, 0)
  void page.ready?.()
}

const pageAt = (path: string, query: URLSearchParams): Page => {
  for (const [pattern, page] of pages) {
    const found = pattern.exec(path)
    if (found) return page({ id: found[1] ?? '', query, left: leaving.signal })
  }
  const content = [el('h1', {}, 'There is no such page'), el('p', {}, el('a', { href: '#/grants' }, 'To the grants'))]
  return { title: 'Not here', content }
}

whenSignedOut(show)
out.addEventListener('click', () => {
  signOut()
  show()
})
document.querySelector('.skip')?.addEventListener('click', event => {
  // The hash is the route.
  event.preventDefault()
  main.focus()
})
window.addEventListener('hashchange', () => show())
// A page that the browser keeps for its Back button keeps no secret.
window.addEventListener('pagehide', closeDialogs)
if (window.location.hash === '') window.history.replaceState(null, '', '#/grants')
show()
