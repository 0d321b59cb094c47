import { cpSync, existsSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { Ajv } from 'ajv'
import formats from 'ajv-formats'
import { parseAllDocuments } from 'yaml'
import { auditFaults } from '../../src/audit/config.ts'
import { auditActions, type AuditEvent } from '../../src/audit/event.ts'
import { accountsFaults, profileFaults, readConfig } from '../../src/config.ts'
import { parseCases, runCases } from '../../src/guardrails/cases.ts'
import { loadGuardrails } from '../../src/guardrails/guardrails.ts'
import { boundaryPolicy, servicePolicy } from '../../src/iam/own-policies.ts'
import { identityFaults } from '../../src/identity/config.ts'
import { root } from './workplace.ts'

export interface Shown {
  text: string
  /** What follows the word in the info string. */
  rest: string[]
  /** A checkout of its own. */
  place: string
  service: () => Promise<{ url: string, token: string }>
}

const must = (faults: unknown[]): void => {
  if (faults.length > 0) throw new Error(faults.map(fault => typeof fault === 'string' ? fault : JSON.stringify(fault)).join('\n'))
}

const same = (shown: unknown, made: unknown): void => {
  if (JSON.stringify(shown) !== JSON.stringify(made)) throw new Error(`made: ${JSON.stringify(made, null, 2)}`)
}

/** The README's account. */
const own = {
  partition: 'aws' as const,
  accountId: '111122223333',
  pathBase: '/job-access/',
  userPrefix: 'ja',
  boundaryArn: 'arn:aws:iam::111122223333:policy/job-access-boundary',
  roles: [],
  buckets: [],
  kmsKeys: []
}

const yaml = (text: string): unknown[] => {
  const documents = parseAllDocuments(text)
  must(documents.flatMap(({ errors }) => errors.map(error => error.message)))
  return documents.map(document => document.toJS() as unknown)
}

const example = readFileSync(join(root, 'guardrails/example.cedar'), 'utf8')

const { components } = JSON.parse(readFileSync(join(root, 'openapi/openapi.json'), 'utf8')) as { components: object }
const ajv = formats.default(new Ajv({ allErrors: true, strict: false }))

/** Files that a page shows, by language and word: each is taken by the code that reads it. */
export const configurations: Record<string, (shown: Shown) => void | Promise<void>> = {
  'json identity': ({ text }) => must(identityFaults(JSON.parse(text))),
  'json accounts': ({ text }) => must(accountsFaults(JSON.parse(text))),
  'json audit': ({ text }) => must(auditFaults(JSON.parse(text))),
  'json profiles': ({ text }) => must(profileFaults(JSON.parse(text))),
  'json service-policy': ({ text }) => same(JSON.parse(text), servicePolicy(own)),
  'json boundary-policy': ({ text }) => same(JSON.parse(text), boundaryPolicy(own)),
  'json example' ({ text, rest: [name] }) {
    const validate = ajv.compile(name ? { $ref: `#/components/schemas/${name}`, components } : {})
    if (!validate(JSON.parse(text))) throw new Error(ajv.errorsText(validate.errors))
  },
  'json audit-line' ({ text }) {
    const { action, seq, actor } = JSON.parse(text) as AuditEvent
    if (!auditActions.includes(action) || seq < 1 || actor.id === '') throw new Error('not an event of the audit')
  },
  'sh config' ({ text }) {
    readConfig(Object.fromEntries(text.trim().split('\n').map(line => {
      const [, name = '', value = ''] = /^([A-Z0-9_]+)=(\S*)$/.exec(line) ?? []
      return [name || line, value]
    })))
  },
  cedar: ({ text }) => { loadGuardrails(text, 'docs') },
  'yaml cases' ({ text }) {
    const wrong = runCases(loadGuardrails(example, 'example.cedar'), parseCases(text, 'docs')).filter(outcome => outcome.wrong !== null)
    must(wrong)
  },
  'yaml kubernetes' ({ text }) {
    for (const manifest of yaml(text) as Array<Record<string, unknown>>) {
      if (!manifest.apiVersion || !manifest.kind || !manifest.metadata) throw new Error('no manifest')
    }
  },
  'yaml github-actions' ({ text }) {
    const [workflow] = yaml(text) as Array<{ jobs?: Record<string, { steps?: unknown[] }> }>
    if (!Object.values(workflow?.jobs ?? {})[0]?.steps?.length) throw new Error('no job with steps')
  },
  hcl ({ text }) {
    const { 1: source = '' } = /source\s*=\s*"([^"]+)"/.exec(text) ?? []
    const variables = join(root, source, 'variables.tf')
    if (!existsSync(variables)) throw new Error(`${source} is no module`)
    const declared = readFileSync(variables, 'utf8')
    for (const [, name = ''] of text.matchAll(/^ +(\w+)\s*=/gm)) {
      if (name !== 'source' && !declared.includes(`variable "${name}"`)) throw new Error(`the module has no variable ${name}`)
    }
  },
  /** A program of the client's user: the package in its sources, since nothing is built here. */
  async ts ({ text, place, service }) {
    const app = join(place, 'app-of-the-page')
    mkdirSync(join(app, 'node_modules', '@job-access'), { recursive: true })
    cpSync(join(root, 'src'), join(place, 'client-sources', 'src'), { recursive: true })
    writeFileSync(join(place, 'client-sources', 'package.json'), '{"name":"@job-access/client","type":"module","exports":"./src/client/index.ts"}')
    symlinkSync(join(place, 'client-sources'), join(app, 'node_modules', '@job-access', 'client'))
    writeFileSync(join(app, 'package.json'), '{"type":"module"}')
    writeFileSync(join(app, 'main.ts'), text)
    const { url, token } = await service()
    const child = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', 'main.ts'],
      { cwd: app, env: { JOBACCESS_URL: url, JOBACCESS_TOKEN: token }, stdio: ['ignore', 'ignore', 'pipe'] })
    let stderr = ''
    child.stderr.setEncoding('utf8').on('data', (chunk: string) => { stderr += chunk })
    const [code] = await once(child, 'close') as [number | null]
    if (code !== 0) throw new Error(stderr)
  }
}
