import { chromium, type Browser, type Page } from 'playwright-core'
import type { Test } from 'tap'
import { requireInstalled } from '../../servers/daemon.ts'

/**
 * Debian's Chromium (CHROMIUM_PATH names another), headless, until the test ends. playwright-core brings no browser and fetches none.
 * No sandbox: Chromium refuses to run as root with one, and only pages of this repository are opened.
 */
export const openBrowser = async (t: Test): Promise<Browser> => {
  const browser = await chromium.launch({
    executablePath: requireInstalled(process.env.CHROMIUM_PATH ?? '/usr/bin/chromium', 'chromium'),
    chromiumSandbox: false
  })
  t.teardown(() => browser.close())
  return browser
}

/** What the page complains of from now on: errors of its scripts and its console, which is where Chromium says what a CSP has stopped. */
export const complaintsOf = (page: Page): string[] => {
  const complaints: string[] = []
  page.on('pageerror', error => complaints.push(String(error)))
  page.on('console', message => {
    if (message.type() === 'error') complaints.push(`${message.text()} (${message.location().url})`)
  })
  return complaints
}
