import ipaddr from 'ipaddr.js'
import { ProblemError } from '../problems.ts'
import type { GrantRequest } from '../request.ts'
import type { Caller } from './deps.ts'

type WithSource = Pick<GrantRequest, 'source' | 'sourceIps' | 'vpc'>

/**
 * Puts the address from which the request came in place of `source: "observed"`. Whatever is wrong with that address is then said of
 * the field that the caller sent.
 */
export const observing = async <Request extends WithSource, T>(
  { ip }: Pick<Caller, 'ip'>, request: Request, work: (request: Request) => Promise<T>
): Promise<T> => {
  const { source, ...rest } = request
  if (source === undefined) return work(request)
  const stated = (['sourceIps', 'vpc'] as const).filter(field => request[field] !== undefined)
  if (stated.length > 0) {
    throw ProblemError.of(stated.map(field => ({
      code: 'source-ambiguous',
      pointer: `/${field}`,
      detail: 'The request states a source and asks to observe one.',
      hint: 'Leave one of them out.'
    })))
  }
  try {
    // An IPv4 address of a socket that takes both families is ::ffff:203.0.113.42.
    return await work({ ...rest, sourceIps: [ipaddr.process(ip).toString()] } as Request)
  } catch (problem) {
    if (!(problem instanceof ProblemError) || problem.init.findings === undefined) throw problem
    throw ProblemError.of(problem.init.findings.map(finding => finding.pointer.startsWith('/sourceIps')
      ? { ...finding, pointer: '/source', detail: `Of the observed address ${ip}: ${finding.detail}` }
      : finding))
  }
}
