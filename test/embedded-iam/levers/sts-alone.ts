import type { Account, Caller } from '../../../src/embedded-iam/account.ts'
import { errorReply, type Received, type Reply } from '../../../src/embedded-iam/dispatch.ts'
import { roleActions } from '../../../src/embedded-iam/roles.ts'

/** The role that stands for none. */
export const noRole = 'sts-alone'

/**
 * The embedded IAM as MinIO documents its STS: AssumeRole, which needs no RoleArn, and no call of IAM. What it answers to the others is in
 * minio/minio, cmd/sts-handlers.go. It keeps every call that came, and the policies of
 * sessions by their keys.
 */
export const stsAlone = (account: Account, { leaky = false } = {}) => {
  const policies = new Map<string, string>()
  const calls: Array<{ action: string, params: Readonly<Record<string, string>> }> = []
  const trusted = leaky ? '*' : `arn:aws:iam::${account.id}:root`
  roleActions.CreateRole?.(account, {
    RoleName: noRole,
    AssumeRolePolicyDocument: JSON.stringify({
      Version: '2012-10-17',
      Statement: [{ Effect: 'Allow', Principal: { AWS: trusted }, Action: ['sts:AssumeRole', 'sts:TagSession', 'sts:SetSourceIdentity'] }]
    }),
    MaxSessionDuration: '43200'
  }, {} as Caller)
  const role = [...account.roles.values()].find(({ name }) => name === noRole)
  const intercept = async (received: Received, serve: () => Reply): Promise<Reply> => {
    const { service, call } = received
    calls.push(call)
    if (service?.name !== 'sts') return errorReply(service, 400, 'MissingParameter', 'Invalid STS API version 2010-05-08')
    if (call.action !== 'AssumeRole') {
      // Wrong keys are refused before that.
      const { status, code, ...reply } = serve()
      return status === 403 ? { status, code, ...reply } : errorReply(service, 400, 'InvalidParameterValue', `Unsupported action ${call.action}`)
    }
    received.call = { ...call, params: { RoleArn: role?.arn ?? '', ...call.params } }
    const reply = serve()
    const [, id] = /<AccessKeyId>(.*)<\/AccessKeyId>/.exec(reply.body) ?? []
    if (id !== undefined) policies.set(id, call.params.Policy ?? '')
    return reply
  }
  return { calls, policies, intercept }
}
