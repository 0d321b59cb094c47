// @ts-check
import { isSignedIn, signOut, whenSignedOut } from './api.js'
import { closeDialogs } from './dialogs.js'
import { grantPage } from './grant.js'
import { grantsPage } from './grants.js'
import { issuePage } from './issue.js'
import { signInPage } from './sign-in.js'
import { el } from './dom.js'

/**
 * A page: its title, its content, and what it does once it stands in the document.
 *
 * @typedef {{ title: string, content: Node[], ready?: () => void }} Page
 * @typedef {{ id: string, query: URLSearchParams, left: AbortSignal }} Visit `left` aborts when another page is shown
 * @type {[RegExp, (visit: Visit) => Page][]}
 */
const pages = [
  [/^\/grants$/, grantsPage],
  [/^\/grants\/([0-9a-z]{26})$/, grantPage],
  [/^\/issue$/, issuePage]
]

const main = /** @type {HTMLElement} */ (document.getElementById('main'))
const nav = /** @type {HTMLElement} */ (document.querySelector('nav'))
const out = /** @type {HTMLButtonElement} */ (document.getElementById('sign-out'))

let leaving = new AbortController()

/** @param {unknown} [refusal] why the token is asked for again */
const show = refusal => {
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
  page.ready?.()
}

/** @param {string} path @param {URLSearchParams} query @returns {Page} */
const pageAt = (path, query) => {
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
