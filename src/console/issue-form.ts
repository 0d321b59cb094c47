import type { Draft, GrantRequest } from './api.ts'
import { el, newId } from './dom.ts'
import { field, type Fields } from './fields.ts'
import { vpcFields, wordsOf as words } from './source-fields.ts'
import { fromField, toField } from './times.ts'

type At = (pointer: string, control: HTMLElement) => void
interface Part { node: HTMLElement, read: (at: At) => Draft, fill: (request: GrantRequest) => void }

/** The request as a form. `read` gives the request and, since rows come and go, which control stands for which JSON pointer of it. */
interface Form { node: HTMLElement, read: () => { request: Draft, fields: Fields }, fill: (request: GrantRequest) => void }

export const issueForm = (): Form => {
  const parts = [jobPart(), entriesPart('Datasets, read only', 'dataset', 'datasets', 1),
    entriesPart('Base models, read only', 'base model', 'baseModels', 1), outputPart(),
    entriesPart('Other buckets', 'bucket', 'access', 0), clientsPart(), windowPart(), sourcesPart(), layoutPart(), attachPart()]
  return {
    node: el('div', {}, ...parts.map(({ node }) => node)),
    read: () => {
      const fields: Fields = new Map()
      const request: Draft = {}
      for (const part of parts) Object.assign(request, part.read((pointer, control) => { fields.set(pointer, control) }))
      return { request, fields }
    },
    fill: request => { for (const part of parts) part.fill(request) }
  }
}

const text = () => el('input', { type: 'text', autocomplete: 'off', autocapitalize: 'off', spellcheck: 'false' })

const group = (title: string, ...children: Node[]) => el('fieldset', { class: 'panel' }, el('legend', {}, title), ...children)

/** Empty fields are left out, so that the service says what is missing. */
const given = (values: Record<string, unknown>) =>
  Object.fromEntries(Object.entries(values).filter(([, value]) => value !== '' && value !== undefined))

type Control = HTMLInputElement | HTMLSelectElement

const typed = (input: Control) => input.value.trim()

const setValue = (control: Control | undefined, value: string) => { if (control) control.value = value }

const jobPart = (): Part => {
  const [id, team] = [text(), text()]
  const labels = rows('label', () => {
    const [name, value] = [text(), text()]
    return { cells: [field('Name', name), field('Value', value)], controls: [name, value] }
  }, 0)
  return {
    node: group('Job', el('div', { class: 'row' }, field('Job id', id), field('Team', team)), labels.node),
    read: at => {
      at('/job/id', id)
      at('/job/team', team)
      at('/job', id)
      const named = labels.used().map(({ controls }) => controls)
      for (const [name] of named) if (name) at(`/job/labels/${typed(name).replaceAll('~', '~0').replaceAll('/', '~1')}`, name)
      const pairs = named.map(([name, value]) => [name ? typed(name) : '', value ? typed(value) : ''])
      return { job: given({ id: typed(id), team: typed(team), labels: pairs.length > 0 ? Object.fromEntries(pairs) : undefined }) }
    },
    fill: ({ job }) => {
      id.value = job.id
      team.value = job.team
      labels.fill(Object.entries(job.labels ?? {}), ({ controls: [name, value] }, label) => {
        setValue(name, label[0])
        setValue(value, label[1])
      })
    }
  }
}

/** The fields of one entry: what is typed in nearly every request, and a fold with the rest of what the API takes. */
interface EntryFields extends Row {
  read: (at: At, pointer: string) => Draft
  fill: (entry: Partial<AccessEntry>) => void
}

type AccessEntry = NonNullable<GrantRequest['access']>[number]
type Kind = 'prefix' | 'key' | 'keyPrefix'
type Access = 'reads' | 'output' | 'any'

const choose = (...choices: ReadonlyArray<readonly [value: string, words: string]>) =>
  el('select', {}, ...choices.map(([value, words]) => el('option', { value }, words)))

const kindSelect = () => choose(['prefix', 'a directory'], ['key', 'one object'], ['keyPrefix', 'the beginning of keys'])

/** What is typed as prefix, and which field of the request it is. */
const placeIn = (entry: { [kind in Kind]?: string | undefined }): [string, Kind] => {
  if (entry.key !== undefined) return [entry.key, 'key']
  return entry.keyPrefix === undefined ? [entry.prefix ?? '', 'prefix'] : [entry.keyPrefix, 'keyPrefix']
}

const levels = {
  reads: [],
  output: [['write', 'write'], ['read-write', 'read and write']],
  any: [['read', 'read'], ['write', 'write'], ['read-write', 'read and write']]
} as const satisfies Record<Access, unknown>

type Switch = 'delete' | 'versions' | 'tags' | 'attributes' | 'restore' | 'uploads' | 'listNames' | 'bareName'

const switches: ReadonlyArray<[name: Switch, words: string, writes: boolean]> = [
  ['delete', 'Delete', true],
  ['versions', 'Read earlier versions', false],
  ['tags', 'Use tags', false],
  ['attributes', 'Checksums and parts', false],
  ['restore', 'Restore archived objects', false],
  ['uploads', 'List uploads in progress', true],
  ['listNames', 'List all keys, not only these', false],
  ['bareName', 'Also without the last slash', false]
]

const entryFields = (access: Access): EntryFields => {
  const [bucket, prefix, kind] = [text(), text(), kindSelect()]
  const level = choose(...levels[access])
  const offered = switches.filter(([, , writes]) => access !== 'reads' || !writes)
    .map(([name, said]) => ({ name, said, box: el('input', { type: 'checkbox', id: newId(name) }) }))
  const list = choose(['', 'where it reads'], ['true', 'yes'], ['false', 'no'])
  const acl = choose(['', 'none'], ['private', 'private'], ['bucket-owner-read', 'bucket-owner-read'],
    ['bucket-owner-full-control', 'bucket-owner-full-control'], ['true', 'any'])
  const [clients, keys, sid] = [text(), text(), text()]
  const fold = el('details', { class: 'options' }, el('summary', {}, 'Options'),
    el('div', { class: 'switches' }, ...offered.map(({ said, box }) =>
      el('p', { class: 'check' }, box, el('label', { for: box.id }, said)))),
    el('div', { class: 'row' }, field('List keys', list), ...(access === 'reads' ? [] : [field('Set the ACL', acl)]),
      field('Clients here', clients), field('KMS key ARNs', keys), field('Statement id', sid)))
  // A name has up to 63 characters, and is to be seen whole.
  const named = field('Bucket', bucket)
  named.classList.add('full')
  return {
    cells: [named, field('Prefix', prefix), field('Is', kind), ...(access === 'reads' ? [] : [field('Access', level)])],
    below: fold,
    controls: [bucket, prefix, clients, keys, sid, ...offered.map(({ box }) => box)],
    read: (at, pointer) => {
      const names: [string, Control][] = [['', bucket], ['/bucket', bucket], [`/${kind.value}`, prefix], ['/level', level], ['/list', list],
        ['/acl', acl], ['/clients', clients], ['/kmsKeyArns', keys], ['/sid', sid]]
      for (const [name, control] of names) at(pointer + name, control)
      for (const { name, box } of offered) at(`${pointer}/${name}`, box)
      return {
        ...given({
          bucket: typed(bucket),
          [kind.value]: typed(prefix),
          level: access === 'reads' ? '' : level.value,
          sid: typed(sid),
          list: list.value === '' ? '' : list.value === 'true',
          acl: acl.value === 'true' ? true : acl.value,
          clients: words(clients).length > 0 ? words(clients) : '',
          kmsKeyArns: words(keys).length > 0 ? words(keys) : ''
        }),
        ...Object.fromEntries(offered.filter(({ box }) => box.checked).map(({ name }) => [name, true]))
      }
    },
    fill: entry => {
      bucket.value = entry.bucket ?? ''
      const [place, itsKind] = placeIn(entry)
      prefix.value = place
      kind.value = itsKind
      if (access !== 'reads') level.value = entry.level ?? levels[access][0][0]
      for (const { name, box } of offered) box.checked = entry[name] === true
      list.value = String(entry.list ?? '')
      acl.value = String(entry.acl || '')
      clients.value = (entry.clients ?? []).join(', ')
      keys.value = (entry.kmsKeyArns ?? []).join(', ')
      sid.value = entry.sid ?? ''
      fold.open = [list, acl, clients, keys].some(control => control.value !== '') || offered.some(({ box }) => box.checked)
    }
  }
}

const entriesPart = (title: string, one: string, name: 'datasets' | 'baseModels' | 'access', least: number): Part => {
  const entries = rows(one, () => entryFields(name === 'access' ? 'any' : 'reads'), least)
  return {
    node: group(title, entries.node),
    read: at => {
      const list = entries.used().map((entry, index) => entry.read(at, `/${name}/${index}`))
      return list.length > 0 ? { [name]: list } : {}
    },
    fill: request => entries.fill(request[name] ?? [], (fields, entry) => { fields.fill(entry) })
  }
}

const outputPart = (): Part => {
  const output = entryFields('output')
  return {
    node: group('Output', el('div', { class: 'row' }, ...output.cells), ...(output.below ? [output.below] : [])),
    read: at => {
      const entry = output.read(at, '/output')
      return isUsed(output) ? { output: entry } : {}
    },
    fill: request => { output.fill(request.output ?? {}) }
  }
}

const clientsPart = (): Part => {
  const names = text()
  const given = () => words(names)
  return {
    node: group('Clients',
      field('Names, such as pyarrow, s3fs', names, 'What the job reads and writes with. docs/clients.md says what each of them needs.')),
    read: at => {
      at('/clients', names)
      given().forEach((_, index) => { at(`/clients/${index}`, names) })
      // As it was typed: the service refuses a name that it does not know.
      return given().length > 0 ? { clients: given() } : {}
    },
    fill: ({ clients = [] }) => { names.value = clients.join(', ') }
  }
}

const windowPart = (): Part => {
  const start = el('input', { type: 'datetime-local', step: 60 })
  const length = el('input', { type: 'number', min: 1, step: 'any', value: 3 })
  const unit = el('select', {},
    el('option', { value: 60 }, 'minutes'),
    el('option', { value: 3_600, selected: true }, 'hours'),
    el('option', { value: 86_400 }, 'days'))
  const end = el('input', { type: 'datetime-local', step: 60 })
  const grace = el('input', { type: 'number', min: 0, step: 'any', value: 0 })
  const issueAt = el('input', { type: 'datetime-local', step: 60 })
  return {
    node: group('Window, UTC',
      el('div', { class: 'row' }, field('Starts', start, 'Empty: now.'), field('Lasts', length), field('Unit', unit)),
      el('div', { class: 'row' },
        field('Or ends at', end, 'Instead of a length.'), field('Grace for output, minutes', grace, 'For the last checkpoint.'),
        field('Key made at', issueAt, 'Empty: now. Later, it is fetched once by its owner.'))),
    read: at => {
      at('/window', end.value === '' ? length : end)
      at('/window/durationSeconds', length)
      at('/window/notBefore', start)
      at('/window/notAfter', end)
      at('/window/outputGraceSeconds', grace)
      at('/issueAt', issueAt)
      const seconds = length.value === '' || end.value !== '' ? undefined : Math.round(Number(length.value) * Number(unit.value))
      const graceSeconds = grace.value === '' ? 0 : Math.round(Number(grace.value) * 60)
      return {
        window: given({
          // A window that begins before its key would be refused.
          notBefore: fromField(start.value || issueAt.value),
          notAfter: fromField(end.value),
          durationSeconds: seconds,
          outputGraceSeconds: graceSeconds === 0 ? undefined : graceSeconds
        }),
        ...given({ issueAt: fromField(issueAt.value) })
      }
    },
    fill: ({ window }) => {
      start.value = window.notBefore ? toField(Date.parse(window.notBefore)) : ''
      end.value = window.notAfter ? toField(Date.parse(window.notAfter)) : ''
      unit.value = '3600'
      length.value = window.durationSeconds ? String(window.durationSeconds / 3_600) : ''
      grace.value = String((window.outputGraceSeconds ?? 0) / 60)
      issueAt.value = ''
    }
  }
}

const sourcesPart = (): Part => {
  const sources = rows('address', () => {
    const address = text()
    return { cells: [field('Address or CIDR', address)], controls: [address] }
  }, 1)
  const vpc = vpcFields()
  const many = el('input', { type: 'checkbox', id: newId('many') })
  const max = el('input', { type: 'number', min: 1, step: 1, value: 8 })
  const one = el('div', {},
    el('p', { class: 'fine' }, 'As the storage sees the job: the node’s public address, or its NAT’s.'), sources.node, vpc.node)
  const workers = el('div', { class: 'row', hidden: true },
    field('Workers at once, at most', max, 'Each joins by name, with its own source, and gets a key of its own.'))
  const show = () => {
    one.hidden = many.checked
    workers.hidden = !many.checked
  }
  many.addEventListener('change', show)
  return {
    node: group('Source addresses',
      el('p', { class: 'check' }, many, el('label', { for: many.id }, 'The job has many workers')), one, workers),
    read: at => {
      if (many.checked) {
        at('/workers', max)
        at('/workers/max', max)
        return { workers: given({ max: max.value === '' ? undefined : Number(max.value) }) }
      }
      const used = sources.used()
      const first = sources.all()[0]?.controls[0]
      if (first) at('/sourceIps', first)
      const list = used.map(({ controls: [address] }, index) => {
        if (address) at(`/sourceIps/${index}`, address)
        return address ? typed(address) : ''
      })
      return given({ sourceIps: list.length > 0 ? list : undefined, vpc: vpc.read(at) })
    },
    fill: request => {
      many.checked = request.workers !== undefined
      max.value = String(request.workers?.max ?? 8)
      show()
      vpc.fill(request.vpc)
      sources.fill(request.sourceIps ?? [], ({ controls }, address) => { setValue(controls[0], address) })
    }
  }
}

const layouts: [NonNullable<GrantRequest['layout']>, string][] = [
  ['everywhere', 'Window and source on every Allow.'],
  ['guarded', 'In explicit Denies, which also beat a bucket policy; the compact one.'],
  ['guide', 'The published guide to the letter: its reads are bound by nothing.']
]

const layoutPart = (): Part => {
  const name = newId('layout')
  const choices = layouts.map(([value, meaning]) => {
    const radio = el('input', { type: 'radio', name, value, id: newId('layout'), checked: value === 'everywhere' })
    const label = el('label', { for: radio.id }, el('strong', {}, value), el('span', { class: 'fine' }, ` ${meaning}`))
    return { radio, node: el('p', { class: 'check' }, radio, label) }
  })
  const first = choices[0]?.radio
  const error = el('p', { id: newId('error'), class: 'error' })
  if (first) first.dataset.error = error.id
  return {
    node: group('Layout', ...choices.map(({ node }) => node), error),
    read: at => {
      if (first) at('/layout', first)
      return { layout: choices.find(({ radio }) => radio.checked)?.radio.value }
    },
    fill: ({ layout = 'everywhere' }) => { for (const { radio } of choices) radio.checked = radio.value === layout }
  }
}

const attachPart = (): Part => {
  const attach = choose(['', 'to a user of its own, as it fits'], ['inline', 'inline, on the user'], ['managed', 'a managed policy'],
    ['session', 'a role session, without a user'])
  const profile = text()
  const named = field('Role profile', profile, 'Empty: the default one.')
  const show = () => { named.hidden = attach.value !== 'session' }
  attach.addEventListener('change', show)
  show()
  return {
    node: group('Attached', el('div', { class: 'row' }, field('Its policy is attached', attach), named)),
    read: at => {
      at('/attach', attach)
      at('/profile', profile)
      return given({ attach: attach.value, profile: attach.value === 'session' ? typed(profile) : '' })
    },
    fill: request => {
      attach.value = request.attach === 'auto' ? '' : request.attach ?? ''
      profile.value = ''
      show()
    }
  }
}

interface Row { cells: Node[], controls: Control[], below?: Node }

const isUsed = ({ controls }: Row): boolean => controls.some(control =>
  control instanceof HTMLInputElement && (control.type === 'checkbox' ? control.checked : typed(control) !== ''))

/**
 * Rows that can be added and removed. A row in which nothing is typed is no part of the request.
 *
 * @param one what a row is
 * @param least how many stand there from the start
 */
const rows = <R extends Row>(one: string, make: () => R, least: number) => {
  const present = new Map<HTMLElement, R>()
  const list = el('div', { class: 'rows' })
  const changed = () => { list.dispatchEvent(new Event('input', { bubbles: true })) }
  const add = () => {
    const made = make()
    const row = el('div', { class: 'row', role: 'group' }, ...made.cells, el('button', {
      type: 'button',
      class: 'quiet remove',
      onclick: () => {
        row.remove()
        present.delete(row)
        renumber()
        changed()
        more.focus()
      }
    }, '×'), made.below)
    present.set(row, made)
    list.append(row)
    renumber()
    return made
  }
  const renumber = () => {
    [...present.keys()].forEach((row, index) => {
      row.setAttribute('aria-label', `${one} ${index + 1}`)
      row.querySelector('.remove')?.setAttribute('aria-label', `Remove ${one} ${index + 1}`)
    })
  }
  const more = el('button', { type: 'button', class: 'quiet', onclick: () => { add().controls[0]?.focus() } },
    `Add ${/^[aeiou]/.test(one) ? 'an' : 'a'} ${one}`)
  for (let i = 0; i < least; i++) add()
  const all = () => [...present.values()]
  return {
    node: el('div', {}, list, more),
    all,
    used: () => all().filter(isUsed),
    fill: <V>(values: readonly V[], fillOne: (row: R, value: V) => void) => {
      list.replaceChildren()
      present.clear()
      for (const value of values) fillOne(add(), value)
      while (present.size < least) add()
    }
  }
}
