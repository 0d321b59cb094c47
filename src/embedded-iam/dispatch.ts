import { randomUUID } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import type { Account, Action, Caller } from './account.ts'
import { accountActions } from './account.ts'
import type { Call, Effect } from './faults.ts'
import { inlinePolicyActions } from './inline-policies.ts'
import { keyActions } from './keys.ts'
import { policyActions } from './policies.ts'
import { Refusal, statusOf } from './refusal.ts'
import { roleActions } from './roles.ts'
import { authenticate, claimedKeyId, claimOf } from './sigv4.ts'
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

export interface Received { service: Service | undefined, call: Call, req: IncomingMessage, body: Buffer }
export interface Reply { status: number, code: string | null, xml: string, requestId: string }

/**
 * Authenticates, authorizes and does one call, in one turn of the event loop: calls never interleave.
 * @param pathBound whether a missing user is answered as AWS answers a caller whose rights are bound to a path
 */
export function serve (account: Account, { service, call, req, body }: Received, pathBound: boolean): Reply {
  const requestId = randomUUID()
  try {
    if (req.method !== 'POST' || req.url !== '/') throw new Refusal('InvalidAction', 'Only POST / is served.')
    if (body.length > maxBody) throw new Refusal('RequestEntityTooLarge', 'The request is too large.')
    const claim = claimOf(req.headers)
    if (!service) throw new Refusal('InvalidAction', `Could not find operation ${call.action}.`)
    const caller = authenticate(account, claim, req.headers, body, service.name, new Date())
    const action = service.actions.get(call.action)
    if (!action) throw new Refusal('InvalidAction', `Could not find operation ${call.action} for version ${service.version}.`)
    authorize(caller, service, call.action)
    const xml = response(call.action, service.namespace, requestId, action(account, call.params, caller))
    return { status: 200, code: null, xml, requestId }
  } catch (error) {
    // A defect of ours must not look like a flaky connection, which clients retry in silence.
    if (!(error instanceof Refusal)) {
      return errorReply(service, 500, 'InternalFailure', `Defect in the embedded IAM: ${String(error)}`, requestId)
    }
    const refusal = error.missingUser && pathBound ? denied(`iam:${call.action}`, 'the caller') : error
    return errorReply(service, refusal.status, refusal.code, refusal.message, requestId)
  }
}

function authorize (caller: Caller, service: Service, action: string): void {
  // In STS everyone may ask who they are, and whom a role trusts is the role's to say.
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
  const call: Call = { action, params, accessKeyId: claimedKeyId(req.headers), status: null, code: null }
  return { service: services.get(version), call, req, body }
}

/** The answer of a fault that takes the place of the real one. */
export function injected (service: Service | undefined, fault: Effect & { kind: 'error' | 'errorAfter' | 'throttle' }): Reply {
  if (fault.kind === 'throttle') return errorReply(service, 400, 'Throttling', 'Rate exceeded', randomUUID())
  const code = fault.code ?? 'ServiceFailure'
  return errorReply(service, fault.status ?? statusOf(code), code, fault.message ?? 'Injected by a fault.', randomUUID())
}

function errorReply (service: Service | undefined, status: number, code: string, message: string, requestId: string): Reply {
  return { status, code, xml: errorResponse((service ?? iam).namespace, requestId, status, code, message), requestId }
}
