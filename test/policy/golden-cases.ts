import { readdirSync, readFileSync } from 'node:fs'
import { defaultLimits, type Limits } from '../../src/policy/limits.ts'
import type { PolicyDocument } from '../../src/domain/policy-document.ts'
import type { PolicyRequest } from '../../src/request.ts'

/** One reviewed case: this request, under these limits and at this instant, is this policy, to the letter. */
export interface GoldenCase {
  name: string
  title: string
  request: PolicyRequest
  limits: Limits
  now: Date
  policy: PolicyDocument
}

const folder = new URL('../golden/', import.meta.url)

export const goldenCases = (): GoldenCase[] => readdirSync(folder).filter(file => file.endsWith('.json')).sort().map(file => {
  const { title, request, limits, now, policy } = JSON.parse(readFileSync(new URL(file, folder), 'utf8'))
  return { name: file.replace(/\.json$/, ''), title, request, limits: { ...defaultLimits, ...limits }, now: new Date(now), policy }
})
