import type { Grant } from '../client/schema.ts'
import { el } from './dom.ts'
import { field } from './fields.ts'

type Vpc = NonNullable<Grant['source']['vpc']>

const names = [
  ['vpcIds', 'VPC ids'], ['vpcArns', 'VPC ARNs'], ['vpcEndpointIds', 'VPC endpoint ids'], ['sourceIps', 'Private addresses or CIDRs']
] as const satisfies [keyof Vpc, string][]

export const wordsOf = (input: HTMLInputElement): string[] => input.value.split(/[\s,]+/).filter(word => word !== '')

interface VpcFields {
  node: HTMLDetailsElement
  /** Undefined where nothing is typed. */
  read: (at: (pointer: string, control: HTMLElement) => void) => Vpc | undefined
  fill: (vpc: Vpc | undefined) => void
}

/** A source that is no public address: a VPC or its endpoint. Several values stand in one field, with spaces between. */
export const vpcFields = (): VpcFields => {
  const inputs = names.map(([name, label]) =>
    ({ name, label, input: el('input', { type: 'text', autocomplete: 'off', spellcheck: 'false' }) }))
  const node = el('details', { class: 'options' }, el('summary', {}, 'Through a VPC endpoint'),
    el('div', { class: 'row' }, ...inputs.map(({ label, input }) => field(label, input))))
  return {
    node,
    read: at => {
      if (inputs[0]) at('/vpc', inputs[0].input)
      for (const { name, input } of inputs) at(`/vpc/${name}`, input)
      const given = inputs.map(({ name, input }) => [name, wordsOf(input)] as const).filter(([, list]) => list.length > 0)
      return given.length > 0 ? Object.fromEntries(given) : undefined
    },
    fill: vpc => {
      for (const { name, input } of inputs) input.value = (vpc?.[name] ?? []).join(', ')
      node.open = vpc !== undefined
    }
  }
}
