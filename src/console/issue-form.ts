import type { Draft, GrantRequest } from './api.ts'
import { el, newId } from './dom.ts'
import { field, type Fields } from './fields.ts'
import { fromField, toField } from './times.ts'

type At = (pointer: string, control: HTMLElement) => void
interface Part { node: HTMLElement, read: (at: At) => Draft, fill: (request: GrantRequest) => void }

/** The request as a form. `read` gives the request and, since rows come and go, which control stands for which JSON pointer of it. */
interface Form { node: HTMLElement, read: () => { request: Draft, fields: Fields }, fill: (request: GrantRequest) => void }

export const issueForm = (): Form => {
  const parts = [jobPart(), readsPart('Datasets', 'dataset', 'datasets'), readsPart('Base models', 'base model', 'baseModels'),
    outputPart(), clientsPart(), windowPart(), sourcesPart(), layoutPart()]
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
      const named = labels.used()
      for (const [name] of named) if (name) at(`/job/labels/${typed(name).replaceAll('~', '~0').replaceAll('/', '~1')}`, name)
      const pairs = named.map(([name, value]) => [name ? typed(name) : '', value ? typed(value) : ''])
      return { job: given({ id: typed(id), team: typed(team), labels: pairs.length > 0 ? Object.fromEntries(pairs) : undefined }) }
    },
    fill: ({ job }) => {
      id.value = job.id
      team.value = job.team
      labels.fill(Object.entries(job.labels ?? {}))
    }
  }
}

const readsPart = (title: string, one: string, name: 'datasets' | 'baseModels'): Part => {
  const reads = rows(one, () => {
    const [bucket, prefix, kind] = [text(), text(), kindSelect()]
    return { cells: [field('Bucket', bucket), field('Prefix', prefix), field('Is', kind)], controls: [bucket, prefix, kind] }
  }, 1)
  return {
    node: group(`${title}, read only`, reads.node),
    read: at => {
      const used = reads.used()
      const list = used.map(([bucket, prefix, kind], index) => {
        if (!bucket || !prefix || !kind) return {}
        at(`/${name}/${index}`, bucket)
        at(`/${name}/${index}/bucket`, bucket)
        at(`/${name}/${index}/${kind.value}`, prefix)
        return given({ bucket: typed(bucket), [kind.value]: typed(prefix) })
      })
      return list.length > 0 ? { [name]: list } : {}
    },
    fill: request => reads.fill((request[name] ?? []).map(entry => [entry.bucket, ...placeIn(entry)]))
  }
}

type Kind = 'prefix' | 'key' | 'keyPrefix'

const kindSelect = () => el('select', {},
  el('option', { value: 'prefix' }, 'a directory'),
  el('option', { value: 'key' }, 'one object'),
  el('option', { value: 'keyPrefix' }, 'the beginning of keys'))

/** What is typed as prefix, and which field of the request it is. */
const placeIn = (entry: { [kind in Kind]?: string } | undefined): [string, Kind] => {
  if (entry?.key !== undefined) return [entry.key, 'key']
  return entry?.keyPrefix === undefined ? [entry?.prefix ?? '', 'prefix'] : [entry.keyPrefix, 'keyPrefix']
}

const outputPart = (): Part => {
  const [bucket, prefix, kind] = [text(), text(), kindSelect()]
  const level = el('select', {}, el('option', { value: 'write' }, 'write'), el('option', { value: 'read-write' }, 'read and write'))
  const remove = el('input', { type: 'checkbox', id: newId('delete') })
  return {
    node: group('Output',
      el('div', { class: 'row' }, field('Bucket', bucket), field('Prefix', prefix), field('Is', kind), field('Access', level)),
      el('p', { class: 'check' }, remove, el('label', { for: remove.id }, 'The job may delete objects there'))),
    read: at => {
      at('/output', bucket)
      at('/output/bucket', bucket)
      at(`/output/${kind.value}`, prefix)
      at('/output/level', level)
      if (typed(bucket) === '' && typed(prefix) === '' && !remove.checked) return {}
      const may = { level: level.value, delete: remove.checked ? true : undefined }
      return { output: given({ bucket: typed(bucket), [kind.value]: typed(prefix), ...may }) }
    },
    fill: ({ output }) => {
      bucket.value = output?.bucket ?? ''
      const [place, itsKind] = placeIn(output)
      prefix.value = place
      kind.value = itsKind
      level.value = output?.level ?? 'write'
      remove.checked = output?.delete ?? false
    }
  }
}

const clientsPart = (): Part => {
  const names = text()
  const given = () => typed(names).split(/[\s,]+/).filter(name => name !== '')
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
  return {
    node: group('Window, UTC',
      el('div', { class: 'row' }, field('Starts', start, 'Empty: now.'), field('Lasts', length), field('Unit', unit)),
      el('div', { class: 'row' },
        field('Or ends at', end, 'Instead of a length.'), field('Grace for output, minutes', grace, 'For the last checkpoint.'))),
    read: at => {
      at('/window', end.value === '' ? length : end)
      at('/window/durationSeconds', length)
      at('/window/notBefore', start)
      at('/window/notAfter', end)
      at('/window/outputGraceSeconds', grace)
      const seconds = length.value === '' || end.value !== '' ? undefined : Math.round(Number(length.value) * Number(unit.value))
      const graceSeconds = grace.value === '' ? 0 : Math.round(Number(grace.value) * 60)
      return {
        window: given({
          notBefore: fromField(start.value),
          notAfter: fromField(end.value),
          durationSeconds: seconds,
          outputGraceSeconds: graceSeconds === 0 ? undefined : graceSeconds
        })
      }
    },
    fill: ({ window }) => {
      start.value = window.notBefore ? toField(Date.parse(window.notBefore)) : ''
      end.value = window.notAfter ? toField(Date.parse(window.notAfter)) : ''
      unit.value = '3600'
      length.value = window.durationSeconds ? String(window.durationSeconds / 3_600) : ''
      grace.value = String((window.outputGraceSeconds ?? 0) / 60)
    }
  }
}

const sourcesPart = (): Part => {
  const sources = rows('address', () => {
    const address = text()
    return { cells: [field('Address or CIDR', address)], controls: [address] }
  }, 1)
  const many = el('input', { type: 'checkbox', id: newId('many') })
  const max = el('input', { type: 'number', min: 1, step: 1, value: 8 })
  const one = el('div', {},
    el('p', { class: 'fine' }, 'As the storage sees the job: the node’s public address, or its NAT’s.'), sources.node)
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
      const [first] = sources.all()
      if (first?.[0]) at('/sourceIps', first[0])
      const list = used.map(([address], index) => {
        if (address) at(`/sourceIps/${index}`, address)
        return address ? typed(address) : ''
      })
      return list.length > 0 ? { sourceIps: list } : {}
    },
    fill: request => {
      many.checked = request.workers !== undefined
      max.value = String(request.workers?.max ?? 8)
      show()
      sources.fill((request.sourceIps ?? []).map(address => [address]))
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

/**
 * Rows that can be added and removed. A row in which nothing is typed is no part of the request.
 *
 * @param one what a row is
 * @param least how many stand there from the start
 */
const rows = (one: string, make: () => { cells: Node[], controls: Control[] }, least: number) => {
  const present = new Map<HTMLElement, Control[]>()
  const list = el('div', { class: 'rows' })
  const changed = () => { list.dispatchEvent(new Event('input', { bubbles: true })) }
  const add = () => {
    const { cells, controls } = make()
    const row = el('div', { class: 'row', role: 'group' }, ...cells, el('button', {
      type: 'button',
      class: 'quiet remove',
      onclick: () => {
        row.remove()
        present.delete(row)
        renumber()
        changed()
        more.focus()
      }
    }, '×'))
    present.set(row, controls)
    list.append(row)
    renumber()
    return controls
  }
  const renumber = () => {
    [...present.keys()].forEach((row, index) => {
      row.setAttribute('aria-label', `${one} ${index + 1}`)
      row.querySelector('.remove')?.setAttribute('aria-label', `Remove ${one} ${index + 1}`)
    })
  }
  const more = el('button', { type: 'button', class: 'quiet', onclick: () => { add()[0]?.focus() } },
    `Add ${/^[aeiou]/.test(one) ? 'an' : 'a'} ${one}`)
  for (let i = 0; i < least; i++) add()
  const all = () => [...present.values()]
  return {
    node: el('div', {}, list, more),
    all,
    used: () => all().filter(controls => controls.some(control => control instanceof HTMLInputElement && control.value.trim() !== '')),
    fill: (values: string[][]) => {
      list.replaceChildren()
      present.clear()
      for (const value of values) add().forEach((control, index) => { control.value = value[index] ?? '' })
      while (present.size < least) add()
    }
  }
}
