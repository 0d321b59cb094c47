import { randomUUID } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import type { Account, Action, Caller } from './account.ts'
import { accountActions } from './account.ts'
import { inlinePolicyActions } from './inline-policies.ts'
import { keyActions } from './keys.ts'
import { policyActions } from './policies.ts'
import type { Params } from './params.ts'
import { Refusal } from './refusal.ts'
import { roleActions } from './roles.ts'
import { authenticate, claimOf } from './sigv4.ts'
import { stsActions } from './sts.ts'
import { userActions } from './users.ts'
import { errorResponse, response } from './xml.ts'

export interface Service { name: 'iam' | 'sts', version: string, namespace: string, actions: Map<string, Action> }

const iam: Service = {
  name: 'iam',
  version: '2010-05-08',
  namespace: 'https://iam.amazonaws.com/doc/2010-05-08/',
  actions: new Map(Object.entries({
    ...userActions, ...keyActions, ...inlinePolicyActions, ...policyActions, ...roleActions, ...accountActions
  }))
}
const sts: Service = {
  name: 'sts',
  version: '2011-06-15',
  namespace: 'https://sts.amazonaws.com/doc/2011-06-15/',
  actions: new Map(Object.entries(stsActions))
}
const services = new Map([iam, sts].map((service) => [service.version, service]))

/** Names of the actions that are served. */
export const servedActions: Record<'iam' | 'sts', readonly string[]> = { iam: [...iam.actions.keys()], sts: [...sts.actions.keys()] }

/** A policy document of IAM's longest, form-encoded three times over, is about 400 kB. */
export const maxBody = 512 * 1024

/** `params`: the form's fields but Action and Version: `UserName`, `Tags.member.1.Key`, ... They hold no secret. */
export interface Received { service: Service | undefined, call: { action: string, params: Params }, req: IncomingMessage, body: Buffer }
export interface Reply { status: number, code: string | null, type: string, body: string, requestId: string }

/**
 * Authenticates, authorizes and does one call, in one turn of the event loop: calls never interleave.
 * @param pathBound whether a missing user is answered as AWS answers a caller whose rights are bound to a path
 * @param clock by which signatures are judged
 */
export function serve (
  account: Account, { service, call, req, body }: Received, { pathBound, clock }: { pathBound: boolean, clock: Date }
): Reply {
  const requestId = randomUUID()
  try {
    if (req.method !== 'POST' || req.url !== '/') throw new Refusal('InvalidAction', 'Only POST / is served.')
    if (body.length > maxBody) throw new Refusal('RequestEntityTooLarge', 'The request is too large.')
    const claim = claimOf(req.headers)
    if (!service) throw new Refusal('InvalidAction', `Could not find operation ${call.action}.`)
    const caller = authenticate(account, claim, req.headers, body, service.name, clock)
    const action = service.actions.get(call.action)
    if (!action) throw new Refusal('InvalidAction', `Could not find operation ${call.action} for version ${service.version}.`)
    authorize(caller, service, call.action)
    const xml = response(call.action, service.namespace, requestId, action(account, call.params, caller))
    return { status: 200, code: null, type: 'text/xml', body: xml, requestId }
  } catch (error) {
    // A bug of ours must not look like a lost connection, which clients retry without a word.
    if (!(error instanceof Refusal)) {
      return errorReply(service, 500, 'InternalFailure', `Bug in the embedded IAM: ${String(error)}`, requestId)
    }
    const refusal = error.missingUser && pathBound ? denied(`iam:${call.action}`, 'the caller') : error
    return errorReply(service, refusal.status, refusal.code, refusal.message, requestId)
  }
}

function authorize (caller: Caller, service: Service, action: string): void {
  // In STS everyone may ask who they are, and a role's trust policy says who may assume it.
  if (caller.owner.kind === 'admin' || service === sts) return
  throw denied(`${service.name}:${action}`, caller.arn)
}

function denied (action: string, arn: string): Refusal {
  return new Refusal('AccessDenied', `User: ${arn} is not authorized to perform: ${action} ` +
    `because no identity-based policy allows the ${action} action`)
}

/** Reads what a request asks for. Nothing of it is verified yet. */
export function receive (req: IncomingMessage, body: Buffer): Received {
  const params: Record<string, string> = Object.create(null)
  let [action, version] = ['', '']
  for (const [key, value] of new URLSearchParams(body.toString())) {
    if (key === 'Action') action = value
    else if (key === 'Version') version = value
    else params[key] = value
  }
  return { service: services.get(version), call: { action, params }, req, body }
}

export function errorReply (
  service: Service | undefined, status: number, code: string, message: string, requestId: string = randomUUID()
): Reply {
  const body = errorResponse((service ?? iam).namespace, requestId, status, code, message)
  return { status, code, type: 'text/xml', body, requestId }
}
