import type { DialectFile, Finding, Verdict } from '../iam/dialects/file.ts'
import { complaints } from './verdict.ts'

/** What the doctor found, for people. */

const words: Record<Verdict, string> = {
  yes: 'yes', open: 'NOT ENFORCED', shut: 'never allows', refused: 'refused', no: 'no', untried: 'not tried'
}

const rowOf = ({ id, way, asks, verdict, detail = '' }: Finding): string[] =>
  [words[verdict], way === undefined ? id : `${id} (${way})`, asks === id ? '' : asks, detail]

export const summary = (file: DialectFile): string => {
  const wrong = complaints(file)
  const { window, address, prefix, deletion } = file.enforces
  const list = Object.entries({ window, address, prefix, 'deletion of keys': deletion })
    .map(([name, is]) => `${name} ${is ? 'enforced' : 'NOT enforced'}`).join(', ')
  return [`${file.store.name} ${file.store.version}: ${list}.`, ...wrong.map(line => `- ${line}`)].join('\n')
}

/** One line for each row, its cells one below the other. */
export const inColumns = (rows: string[][]): string[] => {
  const widths = (rows[0] ?? []).map((_cell, column) => Math.max(...rows.map(row => (row[column] ?? '').length)))
  return rows.map(row => row.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join('  ').trimEnd())
}

export const table = (file: DialectFile): string => {
  const lines = inColumns(file.findings.map(rowOf))
  const times = Object.entries(file.times).map(([name, value]) => `${name} ${value}`)
  return [...lines, '', `times: ${times.join(', ')}`, '', summary(file), ''].join('\n')
}
