import { randomUUID } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import type { Test } from 'tap'
import { guideRequest } from '../../src/request.ts'
import { freePort } from '../servers/daemon.ts'
import { differences, sameText } from './answers.ts'
import { configurations } from './configurations.ts'
import { blocksOf, nameOf, type Block } from './markdown.ts'
import { startShell, type Shell } from './shell.ts'
import { spelled } from './spelled.ts'
import { checkout, root, startServer, type Server } from './workplace.ts'

/**
 * Does what a page says, from top to bottom, as its reader would: in a checkout, in one shell, with the service in another.
 *
 *   sh                a command: run
 *   sh start          what does not end by itself; `port=8333` where it is not the service
 *   json POST /path   a body, sent there; `{id}` is the grant of the last answer; of a job of workers, below it
 *   json answer       what the block before answered; `…` is left out; `json answer 422`: a refusal
 *   text, X answer    what the block before wrote
 *   json NAME, …      a file of some kind: see configurations.ts
 *   text diagram      nothing to run
 *
 * With `needs=X` it needs more than Node; without that it is only looked at, and so is its answer. Any other block fails.
 */
export interface Provided {
  /** More of the environment, of commands and of what is started; its PATH comes first. */
  env?: Record<string, string>
  /** Ports that pages name, and those to use instead. 8080, the service's, always is another. */
  ports?: Record<number, number>
  /** Another service, for bodies that need it. */
  service?: Service
}

export interface Service { url: string, token: string }

interface Said { text: string, status: number | null }

/** @param provided by what a block needs; null: it could be here and is not, so that its blocks are skipped */
export const runPage = async (t: Test, page: string, provided: Record<string, Provided | null> = {}): Promise<void> => {
  const blocks = blocksOf(page, readFileSync(join(root, page), 'utf8'))
  if (blocks.length === 0) return
  const visit = await visitOf(t, provided)
  let onlyLookedAt = false
  let missing: string | null = null
  for (const [index, block] of blocks.entries()) {
    if (!isAnswer(block)) {
      onlyLookedAt = block.needs !== null && !provided[block.needs]
      missing = block.needs !== null && provided[block.needs] === null ? block.needs : null
    }
    const next = blocks[index + 1]
    try {
      if (onlyLookedAt) throwAll(spelled(block))
      else await visit.follow(block, next && isAnswer(next) ? Number(next.words[1] ?? 0) : 0)
      t.pass(`${nameOf(block)}${onlyLookedAt ? ' (only looked at)' : ''}`, { skip: missing !== null && `no ${missing} here` })
    } catch (error) {
      // What comes after it builds on it.
      t.fail(nameOf(block), { found: error instanceof Error ? error.message : String(error) })
      return
    }
  }
}

const isAnswer = ({ language, words }: Block): boolean => words[0] === 'answer' || (language === 'text' && words.length === 0)

const throwAll = (faults: string[]): void => {
  if (faults.length > 0) throw new Error(faults.join('\n'))
}

const visitOf = async (t: Test, provided: Record<string, Provided | null>) => {
  const place = checkout(t)
  const ports: Record<number, number> = { 8080: await freePort('127.0.0.1') }
  const env = { ...place.env }
  for (const { env: { PATH = '', ...more } = {}, ports: replaced = {} } of Object.values(provided).filter(each => each !== null)) {
    Object.assign(ports, replaced)
    Object.assign(env, more, PATH !== '' && { PATH: `${PATH}:${env.PATH}` })
  }
  const servers = new Map<number, Server>()
  let token = ''
  let shell: Shell | undefined
  let grant = ''
  let jobOfWorkers = ''
  let said: Said | undefined

  /** As it stands there, but for what is this run's own. */
  const here = (text: string): string => Object.entries(ports)
    .reduce((rest, [named, port]) => rest.replaceAll(`127.0.0.1:${named}`, `127.0.0.1:${port}`).replaceAll(`PORT=${named} `, `PORT=${port} `), text)
    .replaceAll('jat_from_npm_start', token || 'jat_from_npm_start')
    .replaceAll('/dev/shm/', `${place.path}/`)

  const start = async (text: string, named: number): Promise<void> => {
    // Its reader has ended what had the port.
    await servers.get(named)?.stop()
    const port = ports[named] ?? named
    const settings: Record<string, string> = named === 8080 ? { ...env, PORT: `${port}`, LOG_LEVEL: 'warn' } : env
    const says = named === 8080 && !text.includes('JOB_ACCESS_IDENTITY') ? /jat_\S+ / : undefined
    const server = await startServer(t, { text: here(text), port, says, cwd: place.path, env: settings })
    servers.set(named, server)
    token = says?.exec(server.said())?.[0].trim() ?? token
  }

  const service = async (): Promise<Service> => {
    if (!servers.has(8080)) await start('npm start', 8080)
    return { url: `http://127.0.0.1:${ports[8080]}`, token }
  }

  const hear = (answer: Said): void => {
    said = answer
    grant = /"id": ?"([0-7][0-9a-hjkmnp-tv-z]{25})"/.exec(answer.text)?.[1] ?? grant
    if (/"workers": ?\{/.test(answer.text)) jobOfWorkers = grant
  }

  const send = async ({ words: [method = '', path = ''], needs, text }: Block, refusal: number): Promise<void> => {
    const { url, token } = provided[needs ?? '']?.service ?? await service()
    if (path.endsWith('/credentials')) await schedule(url, token)
    const answer = await fetch(url + path.replace('{id}', path.includes('/workers') ? jobOfWorkers : grant), {
      method,
      headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
      body: text
    })
    hear({ text: await answer.text(), status: answer.status })
    if (refusal === 0 ? !answer.ok : answer.status !== refusal) throw new Error(`${answer.status}: ${said?.text}`)
  }

  /** Its credentials can be fetched only of a grant that waits for that. */
  const schedule = async (url: string, token: string): Promise<void> => {
    // Far enough that a busy machine asks before it: after it there is no schedule, and the key is in the answer.
    const issueAt = Math.ceil(Date.now() / 1000) * 1000 + 10_000
    const body = { ...guideRequest, job: { id: `scheduled-${randomUUID()}`, team: 'nlp' }, issueAt: new Date(issueAt).toISOString().replace(/\.\d+/, '') }
    const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/json' }
    const answer = await fetch(`${url}/v1/grants`, { method: 'POST', headers, body: JSON.stringify(body) })
    hear({ text: await answer.text(), status: answer.status })
    while (Date.now() < issueAt) await delay(issueAt - Date.now())
  }

  const compare = ({ language, text }: Block): void => {
    if (!said) throw new Error('nothing was said before')
    if (language !== 'json') {
      if (!sameText(text, said.text)) throw new Error(`what was said:\n${said.text}`)
      return
    }
    const faults = differences(JSON.parse(text), JSON.parse(said.text))
    if (faults.length > 0) throw new Error(`${faults.join('\n')}\nof the answer ${said.text}`)
  }

  /** @param refusal the status of the refusal that is shown after it, or 0 */
  const follow = async (block: Block, refusal: number): Promise<void> => {
    const { language, words, text } = block
    const kind = [language, words[0] ?? ''].join(' ').trim()
    if (isAnswer(block)) return compare(block)
    if (kind === 'sh start') return start(text, Number(/port=(\d+)/.exec(words.join(' '))?.[1] ?? 8080))
    if (kind === 'json POST' || kind === 'json PATCH') return send(block, refusal)
    if (kind === 'text diagram') return
    if (kind === 'sh') {
      if (/\bnpm ci\b/.test(text)) throw new Error('npm ci would fetch from a registry: mark it')
      if (/127\.0\.0\.1:8080|jat_from_npm_start/.test(text)) await service()
      shell ??= startShell(t, place.path, env)
      return hear({ text: await shell.run(here(text)), status: null })
    }
    const check = configurations[kind]
    if (!check) throw new Error('of no kind that is run or checked: see test/docs/page.ts')
    await check({ text, rest: words.slice(1), place: place.path, service })
  }

  return { follow }
}
