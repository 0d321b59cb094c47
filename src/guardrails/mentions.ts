import type { PolicyJson } from '@cedar-policy/cedar-wasm/nodejs'

/**
 * Which attributes, types and methods a set of policies names. What no policy names cannot change a decision, so it is
 * left out of the call: Cedar reads entities and context from JSON each time, and that, not the policies, is what costs.
 */
export interface Mentions {
  has (name: string): boolean
}

/**
 * Takes every string of the policies' JSON form, keys and values alike: an attribute cannot be reached without its name, nor
 * an entity by its id without its type. Types alone are left out (`resource is JobAccess::Access`): every entity shows its
 * own. Where `context` is taken whole (`context == {…}`) everything is mentioned.
 */
export const mentionsOf = (policies: PolicyJson[]): Mentions => {
  const names = new Set<string>()
  let whole = false
  const walk = (node: unknown, key: string, under: string): void => {
    if (typeof node === 'string') {
      names.add(node)
      if (key === 'Var' && node === 'context' && under !== '.' && under !== 'has') whole = true
    } else if (Array.isArray(node)) {
      for (const item of node) walk(item, key, under)
    } else if (node !== null && typeof node === 'object') {
      for (const [name, value] of Object.entries(node)) {
        if (name === 'entity_type' && under !== 'Record') continue
        names.add(name)
        // In { ".": { left: { Var } } } the operator stands above `left`. The keys of a record literal are no operators.
        walk(value, name, name === 'Var' || name === 'left' || under === 'Record' ? under : name)
      }
    }
  }
  for (const { principal, resource, conditions } of policies) walk([principal, resource, conditions.map(({ body }) => body)], '', '')
  return { has: name => whole || names.has(name) }
}
